"""A resource provider's line to the engine that runs it: progress goes up it, and the provider ends with it.

Pulumi gives a plugin the engine's address as its first argument, and neither asks for progress nor stops the
plugin when it is killed itself; a provider that outlives its engine would work on a deployment that somebody
else changes by now.
"""

from __future__ import annotations

import functools
import os
import socket
import sys
import threading

import grpc
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

__all__ = ["Reporter", "end_with_engine"]

_SAY_SECONDS = 2.0
_LOOK_SECONDS = 0.5


class Reporter:
    """Says what happens to one resource, at its own line; a line that is lost fails no deployment."""

    def __init__(self, urn: str | None) -> None:
        self.urn = urn or ""

    def say(self, message: str) -> None:
        """One line of progress. Outside a plugin it goes to standard error."""
        address = engine_address(tuple(sys.argv))
        if address is None:
            print(message, file=sys.stderr)
            return
        request = engine_pb2.LogRequest(
            severity=engine_pb2.INFO, message=message, urn=self.urn, streamId=0, ephemeral=True
        )
        try:
            _engine(address).Log(request, timeout=_SAY_SECONDS)
        except grpc.RpcError:
            print(message, file=sys.stderr)


def end_with_engine() -> None:
    """Ends this process, wherever it is, soon after its engine has gone; outside a plugin it does nothing."""
    address = engine_address(tuple(sys.argv))
    if address is not None:
        threading.Thread(target=_watch, args=(address,), name="engine-watch", daemon=True).start()


def engine_address(argv: tuple[str, ...]) -> str | None:
    """The engine's address among a plugin's arguments."""
    addresses = [argument for argument in argv[1:] if not argument.startswith("-")]
    host, _, port = addresses[0].rpartition(":") if addresses else ("", "", "")
    return addresses[0] if host and port.isdecimal() else None


def _watch(address: str) -> None:
    host, _, port = address.rpartition(":")
    never = threading.Event()
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=_LOOK_SECONDS).close()
        except ConnectionRefusedError:
            os._exit(1)
        except OSError:
            pass  # a busy machine is no reason to end
        never.wait(_LOOK_SECONDS)


@functools.cache
def _engine(address: str) -> engine_pb2_grpc.EngineStub:
    return engine_pb2_grpc.EngineStub(grpc.insecure_channel(address))
