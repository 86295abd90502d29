"""What of a deployment is still on this machine: its processes, its ports, its files.

A process is recognised by the deployment directory in its environment, so one without a supervisor is too.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["Leftovers", "leftovers", "ports"]

DEPLOYMENT = "HOLDFAST_DEPLOYMENT"


@dataclass(frozen=True)
class Leftovers:
    """What remains; false if nothing does."""

    processes: Mapping[int, str]
    ports: tuple[int, ...]
    directory: Path | None

    def __bool__(self) -> bool:
        return bool(self.processes or self.ports or self.directory)

    def __str__(self) -> str:
        said = [f"process {pid} ({name})" for pid, name in sorted(self.processes.items())]
        said += [f"port {port} is open" for port in self.ports]
        said += [f"files in {self.directory}"] if self.directory else []
        return "; ".join(said)


def leftovers(directory: Path, known_ports: tuple[int, ...] = ()) -> Leftovers:
    """What remains of the deployment in `directory`, which used `known_ports`."""
    return Leftovers(
        processes=dict(_processes(directory)),
        ports=tuple(port for port in known_ports if _open(port)),
        directory=directory if directory.exists() else None,
    )


def ports(directory: Path) -> tuple[int, ...]:
    """The ports that the deployment in `directory` has allocated."""
    try:
        return tuple(
            sorted(set(_numbers(json.loads((directory / "ports.json").read_text(encoding="utf-8")))))
        )
    except (OSError, ValueError):
        return ()


def _numbers(value: object) -> Iterator[int]:
    if isinstance(value, int) and not isinstance(value, bool):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _numbers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner)


def _processes(directory: Path) -> Iterator[tuple[int, str]]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(DEPLOYMENT) == str(directory):
                yield process.pid, process.name()


def _open(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(0.5)
        return client.connect_ex(("127.0.0.1", port)) == 0
