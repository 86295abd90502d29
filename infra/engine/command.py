"""The Pulumi command, run so that it is interrupted once and gracefully, whoever presses Ctrl-C.

Pulumi takes a first SIGINT as "finish the parts in progress, then stop" and a second one as "stop now",
which leaves a lock and pending operations. A terminal sends SIGINT to a whole process group, so Pulumi gets a
session of its own, and `interrupt` decides what it is told.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from pulumi.automation import CommandResult, PulumiCommand
from pulumi.automation.errors import create_command_error
from semver import VersionInfo

__all__ = ["Command"]


class Command(PulumiCommand):
    """Runs one Pulumi binary of a known version, without a word from the user's own Pulumi settings."""

    def __init__(self, binary: Path, version: str) -> None:
        self.command = str(binary)
        self.version = VersionInfo.parse(version)
        self._running: subprocess.Popen[str] | None = None

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: Callable[[str], Any] | None = None,
        on_error: Callable[[str], Any] | None = None,
    ) -> CommandResult:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PULUMI_")}
        environment |= {**additional_env, "PULUMI_AUTOMATION_API": "true"}
        process = subprocess.Popen(
            [self.command, "--non-interactive", *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=environment,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._running = process
        lines: dict[str, list[str]] = {"out": [], "err": []}
        readers = [
            threading.Thread(target=_read, args=(process.stdout, lines["out"], on_output)),
            threading.Thread(target=_read, args=(process.stderr, lines["err"], on_error)),
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        code = process.wait()
        self._running = None
        result = CommandResult("\n".join(lines["out"]), "\n".join(lines["err"]), code)
        if code != 0:
            raise create_command_error(result)
        return result

    def interrupt(self) -> None:
        """Asks the running command, if any, to stop after the parts in progress; a second time, at once."""
        process = self._running
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)


def _read(stream: IO[str], lines: list[str], callback: Callable[[str], Any] | None) -> None:
    with stream:
        for line in stream:
            lines.append(line.rstrip())
            if callback is not None:
                callback(line.rstrip())
