"""A deployment's ports are its own for as long as it exists: allocated once, by name, in one block.

The block is chosen by the deployment's directory, so that two deployments side by side seldom compete; a
block with a port that anybody listens on is passed over.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import psutil

from infra.local.errors import PartError
from infra.local.files import PUBLIC, write
from infra.local.links import LINKS
from infra.topology import REGIONS, Settings

__all__ = ["BLOCK", "Ports", "allocate", "check_free", "load", "port_names"]

FIRST, LAST, BLOCK = 20000, 32000, 240
FILE = "ports.json"
MAX_WORKERS = 16

Ports = Mapping[str, int]


def port_names() -> Sequence[str]:
    """Every port that a deployment may need, in the order of allocation, whatever its settings are."""
    return tuple(_names())


def _names() -> Iterator[str]:
    yield from ("wan.toxiproxy", "payments", "provider")
    yield from (f"gateway.{site}" for site in ("a", "b", "w"))
    yield from ("w.etcd", "w.etcd-peer", "w.observer", "w.prometheus")
    yield from (f"link.{link.name}" for link in LINKS)
    for region in REGIONS:
        yield from (f"{region}.{name}" for name in ("etcd", "etcd-peer", "postgres", "patroni"))
        yield from (f"{region}.{name}" for name in ("agent", "api"))
        yield from (f"{region}.sentry{kind}" for kind in ("", "-health", "-metrics"))
        yield from (f"{region}.placement{kind}" for kind in ("", "-health", "-metrics", "-raft"))
        yield from (f"{region}.scheduler{kind}" for kind in ("", "-health", "-metrics", "-etcd", "-etcd-peer"))
        for number in range(1, MAX_WORKERS + 1):
            yield from (f"{region}.daprd-{number}-{kind}" for kind in ("grpc", "http", "internal", "metrics", "app"))


def load(directory: Path) -> Ports | None:
    """The ports that were allocated, or nothing."""
    try:
        read = json.loads((directory / FILE).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise PartError(f"{directory / FILE} is damaged ({error}): `holdfast down`, then `up`") from error
    return cast("Mapping[str, int]", read["ports"])


def allocate(settings: Settings) -> Ports:
    """The deployment's ports: those of its last time, else a new block of free ones."""
    names = port_names()
    known = load(settings.directory)
    if known is not None and set(names) <= set(known):
        return known
    digest = hashlib.sha256(str(settings.directory).encode()).digest()
    blocks = (LAST - FIRST) // BLOCK
    start = int.from_bytes(digest[:4], "big") % blocks
    for step in range(blocks):
        base = FIRST + (start + step) % blocks * BLOCK
        if all(is_free(port) for port in range(base, base + BLOCK)):
            ports = {name: base + offset for offset, name in enumerate(names)}
            text = json.dumps({"base": base, "ports": ports}, indent=1)
            write(settings.directory / FILE, text + "\n", mode=PUBLIC)
            return ports
    raise PartError(
        f"no {BLOCK} consecutive free ports between {FIRST} and {LAST}: end other deployments with "
        f"`holdfast down`, or whatever listens there"
    )


def is_free(port: int) -> bool:
    """Whether a server could listen on the loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def check_free(ports: Mapping[str, int]) -> None:
    """Raises `PartError` that names the port and, where it can be seen, the process that took it."""
    for name, port in ports.items():
        if not is_free(port):
            raise PartError(
                f"port {port}, which is {name}'s, is taken by {holder(port)}: end that process, or "
                f"`holdfast down` and `holdfast up` to choose other ports"
            )


def holder(port: int) -> str:
    """Who listens on the port, as far as this user may know."""
    try:
        for connection in psutil.net_connections("tcp"):
            # `laddr` is an empty tuple where there is no address.
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass
    return "another process"
