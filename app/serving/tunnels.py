"""Carries a loopback port of one pod to a loopback port of another, under mutual TLS in between.

What speaks plainly on the loopback interface, as a sidecar does, so answers nobody on the network but holders of a
certificate of the root.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Coroutine, Sequence
from typing import Literal

from serving.config import ConfigurationFile, Listen, Tls

log = logging.getLogger(__name__)
_CHUNK = 65536
_CONNECT_SECONDS = 5.0


class Tunnel(ConfigurationFile):
    """One end: `in` takes TLS from the network and goes on plainly, `out` takes what is plain and goes on in TLS."""

    direction: Literal["in", "out"]
    listen: Listen
    to: Listen


async def open_tunnels(tunnels: Sequence[Tunnel], tls: Tls) -> list[asyncio.Server]:
    """Every tunnel's listening end. A connection whose other end can't be reached is closed."""
    contexts = {"in": _server_context(tls), "out": tls.client_context()}
    return [await _open(tunnel, contexts[tunnel.direction]) for tunnel in tunnels]


async def _open(tunnel: Tunnel, context: ssl.SSLContext) -> asyncio.Server:
    host, port = _address(tunnel.to)
    onwards = context if tunnel.direction == "out" else None

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            connecting = asyncio.open_connection(host, port, ssl=onwards)
            far_reader, far_writer = await asyncio.wait_for(connecting, _CONNECT_SECONDS)
        except (OSError, TimeoutError) as error:
            log.info("no way to %s: %r", tunnel.to, error)
            writer.close()
            return
        try:
            await _either(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            for end in (writer, far_writer):
                end.close()

    listen_host, listen_port = _address(tunnel.listen)
    taken = context if tunnel.direction == "in" else None
    return await asyncio.start_server(carry, listen_host, listen_port, ssl=taken)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()


async def _either(*pumps: Coroutine[None, None, None]) -> None:
    """A connection that one side has ended is over for both, so that the other notices at once."""
    tasks = [asyncio.ensure_future(pump) for pump in pumps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _server_context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tls.ca))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tls.cert, tls.key)
    return context


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)
