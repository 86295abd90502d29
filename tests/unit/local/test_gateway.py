"""The gateway carries a member to the link from its own site, and nobody to anywhere else."""

from __future__ import annotations

import asyncio
import socket

import pytest

from infra.local.gateway import main, serve

pytestmark = pytest.mark.unit


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


async def ask(port: int, head: bytes) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5), reader, writer


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data.upper())
        await writer.drain()
    writer.close()


def test_a_member_is_carried_to_its_link_and_back() -> None:
    async def scenario() -> None:
        link = await asyncio.start_server(echo, "127.0.0.1", 0)
        target = f"127.0.0.1:{link.sockets[0].getsockname()[1]}"
        port = free_port()
        servers = await serve({port: {"etcd-b.holdfast.local:2380": target}})
        answer, reader, writer = await ask(port, b"CONNECT etcd-b.holdfast.local:2380 HTTP/1.1\r\n\r\n")
        assert b" 200 " in answer
        writer.write(b"hello")
        assert await asyncio.wait_for(reader.readexactly(5), 5) == b"HELLO"
        writer.close()
        for server in (*servers, link):
            server.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"CONNECT 127.0.0.1:22 HTTP/1.1", b" 403 "),
        (b"CONNECT etcd-w.holdfast.local:2380 HTTP/1.1", b" 403 "),
        (b"CONNECT dead:1 HTTP/1.1", b" 502 "),
        (b"GET http://dead:1/ HTTP/1.1", b" 405 "),
        (b"nonsense", b" 405 "),
    ],
)
def test_whatever_else_is_asked_for_is_refused(request_line: bytes, status: bytes) -> None:
    async def scenario() -> None:
        port = free_port()
        servers = await serve({port: {"dead:1": f"127.0.0.1:{free_port()}"}})
        answer, reader, writer = await ask(port, request_line + b"\r\nHost: x\r\n\r\n")
        assert status in answer
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        for server in servers:
            server.close()

    asyncio.run(scenario())


def test_a_link_that_is_cut_hangs_up_on_the_member() -> None:
    async def scenario() -> None:
        opened: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        link = await asyncio.start_server(lambda _, writer: opened.put_nowait(writer), "127.0.0.1", 0)
        target = f"127.0.0.1:{link.sockets[0].getsockname()[1]}"
        port = free_port()
        servers = await serve({port: {"etcd-b:1": target}})
        _, reader, writer = await ask(port, b"CONNECT etcd-b:1 HTTP/1.1\r\n\r\n")
        (await asyncio.wait_for(opened.get(), 5)).close()
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        for server in (*servers, link):
            server.close()

    asyncio.run(scenario())


def test_a_configuration_that_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "/nonexistent.json"]) == 2
    assert "/nonexistent.json" in capsys.readouterr().err
