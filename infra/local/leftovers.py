"""What of a deployment is still on this machine: its processes, its ports, its files."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.local import ports
from infra.local.errors import PartError
from infra.local.part import PARTS
from infra.local.site import members

__all__ = ["Leftovers", "known_ports", "leftovers"]


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


def leftovers(directory: Path, used_ports: tuple[int, ...] = ()) -> Leftovers:
    """What remains of the deployment in `directory`, which used `used_ports`."""
    processes = {
        process.pid: f"{process.name()} of {site}"
        for site in PARTS
        for process in members(site, directory / site, directory)
    }
    return Leftovers(
        processes=processes,
        ports=tuple(port for port in used_ports if _answers(port)),
        directory=directory if directory.exists() else None,
    )


def known_ports(directory: Path) -> tuple[int, ...]:
    """The ports that the deployment in `directory` has allocated, as far as that can be read."""
    try:
        allocated = ports.load(directory)
    except PartError:
        return ()
    return tuple(sorted((allocated or {}).values()))


def _answers(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(0.5)
        return client.connect_ex(("127.0.0.1", port)) == 0
