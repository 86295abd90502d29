"""A loopback port of another pod, for holders of a certificate of the root alone."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from serving import Tls
from serving.tunnels import Tunnel, open_tunnels

from infra.certificates import Root

pytestmark = pytest.mark.unit


def issue(directory: Path, root: Root) -> Tls:
    directory.mkdir()
    made = root.leaf("pod")
    for name, content in (("ca", root.certificate), ("cert", made.certificate), ("key", made.key)):
        (directory / name).write_bytes(content)
    return Tls(ca=directory / "ca", cert=directory / "cert", key=directory / "key")


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    return issue(tmp_path / "ours", Root(Root.new()))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await reader.readline()).upper())
    writer.close()


def port_of(server: asyncio.Server) -> int:
    return server.sockets[0].getsockname()[1]


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def through_both_ends(tls: Tls, use: Callable[[int, int], Awaitable[None]], *, served: bool = True) -> None:
    """`use` gets the plain port of one pod and the port that the other shows on the network."""

    async def run() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        behind = port_of(server)
        if not served:
            server.close()
        plain, network = free_port(), free_port()
        ends = [
            Tunnel(direction="in", listen=f"127.0.0.1:{network}", to=f"127.0.0.1:{behind}"),
            Tunnel(direction="out", listen=f"127.0.0.1:{plain}", to=f"localhost:{network}"),
        ]
        opened = await open_tunnels(ends, tls)
        try:
            await asyncio.wait_for(use(plain, network), 10)
        finally:
            for one in (*opened, server):
                one.close()

    asyncio.run(run())


async def said(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    try:
        writer.write(b"hello\n")
        await writer.drain()
        return await reader.read()
    except (OSError, ssl.SSLError):
        return b""
    finally:
        writer.close()


def test_what_goes_in_plainly_comes_out_plainly_and_back(tls: Tls) -> None:
    async def use(plain: int, network: int) -> None:
        assert await said(*await asyncio.open_connection("127.0.0.1", plain)) == b"HELLO\n"

    through_both_ends(tls, use)


def test_the_network_side_answers_nobody_without_a_certificate_of_the_root(tls: Tls, tmp_path: Path) -> None:
    stranger = issue(tmp_path / "strange", Root(Root.new()))
    trusting = ssl.create_default_context(cafile=str(tls.ca))
    impostor = ssl.create_default_context(cafile=str(tls.ca))
    impostor.load_cert_chain(stranger.cert, stranger.key)

    async def use(plain: int, network: int) -> None:
        assert await said(*await asyncio.open_connection("127.0.0.1", network)) == b""
        for context in (trusting, impostor):
            connection = await asyncio.open_connection("127.0.0.1", network, ssl=context)
            assert await said(*connection) == b""
        ours = await asyncio.open_connection("127.0.0.1", network, ssl=tls.client_context())
        assert await said(*ours) == b"HELLO\n"

    through_both_ends(tls, use)


def test_a_connection_that_leads_nowhere_is_closed(tls: Tls) -> None:
    async def use(plain: int, network: int) -> None:
        assert await said(*await asyncio.open_connection("127.0.0.1", plain)) == b""

    through_both_ends(tls, use, served=False)
