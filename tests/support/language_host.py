"""Stands in for `pulumi-language-python` where Pulumi's plugins cannot be downloaded.

It lets a Pulumi built from its Go module run `runtime: python` programs, in this interpreter. It is test
support: a user's own Pulumi brings the real language host, which runs the program in a process of its own.
"""

from __future__ import annotations

import os
import runpy
import shlex
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.automation._server import LanguageServer
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

_LARGEST_MESSAGE = 400 << 20


class LanguageHost(LanguageServer):
    """The part of the language host that running a program needs."""

    def __init__(self, engine: str) -> None:
        super().__init__(lambda: None)
        self.engine = engine

    def Handshake(self, request: Any, context: Any) -> Any:
        self.engine = request.engine_address or self.engine
        return language_pb2.LanguageHandshakeResponse()

    def Run(self, request: Any, context: Any) -> Any:
        directory = request.info.program_directory or request.pwd
        program = os.path.join(directory, request.info.entry_point or ".")
        os.chdir(request.pwd or directory)
        self.program = lambda: runpy.run_path(program, run_name="__main__")
        request.args[:] = [self.engine]
        answer = super().Run(request, context)
        # The error was told already; an answer that names it again is told again.
        return language_pb2.RunResponse(bail=True) if answer.error else answer

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version="0.0.0")

    def InstallDependencies(self, request: Any, context: Any) -> Iterator[Any]:
        return iter(())

    def GetProgramDependencies(self, request: Any, context: Any) -> Any:
        return language_pb2.GetProgramDependenciesResponse()

    def RuntimeOptionsPrompts(self, request: Any, context: Any) -> Any:
        return language_pb2.RuntimeOptionsResponse()

    def Cancel(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()


def install(directory: Path) -> Path:
    """Writes the plugins that a Pulumi without any needs into `directory`, to be put on PATH."""
    directory.mkdir(parents=True, exist_ok=True)
    # Like the real one, the plugin looks for the environment from its working directory.
    environment = '"$PULUMI_RUNTIME_VIRTUALENV/bin/python"'
    scripts = {
        "pulumi-language-python": f'exec {shlex.quote(sys.executable)} -u {shlex.quote(__file__)} "$@"',
        "pulumi-resource-pulumi-python": f'exec {environment} -u -m pulumi.dynamic "$@"',
    }
    for name, command in scripts.items():
        path = directory / name
        path.write_text(f"#!/bin/sh\n{command}\n")
        path.chmod(0o755)
    return directory


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    engine = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")
    server = grpc.server(
        ThreadPoolExecutor(max_workers=8), options=[("grpc.max_receive_message_length", _LARGEST_MESSAGE)]
    )
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(LanguageHost(engine), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
