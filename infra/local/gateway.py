"""Lease-store members reach each other only over WAN links, each by the link from its own site.

A member has one peer address for everybody, so which link carries a connection depends on who dials: each
site has its own port here, an HTTP CONNECT proxy that maps a member's name to the link from that site. What
is not on a port's list is refused with 403. This module imports little, as it runs all the time.
"""

import argparse
import asyncio
import json
import sys

__all__ = ["main", "serve"]

_CHUNK = 65536
_HEAD_SECONDS = 10.0

Routes = dict[str, str]
"""`host:port` as the member asks for it, to `host:port` of the link."""


async def serve(ports: dict[int, Routes]) -> list[asyncio.Server]:
    """A proxy on each loopback port, with its own routes."""

    def handler(routes: Routes):
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await _connection(reader, writer, routes)
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
                pass
            finally:
                writer.close()

        return handle

    return [await asyncio.start_server(handler(routes), "127.0.0.1", port) for port, routes in ports.items()]


async def _connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, routes: Routes) -> None:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _HEAD_SECONDS)
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(words) != 3 or words[0] != "CONNECT":
        return await _refuse(writer, "405 Method Not Allowed")
    link = routes.get(words[1])
    if link is None:
        return await _refuse(writer, "403 Forbidden")
    host, _, port = link.rpartition(":")
    try:
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return await _refuse(writer, "502 Bad Gateway")
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    try:
        await _until_either(_pump(reader, up_writer), _pump(up_reader, writer))
    finally:
        up_writer.close()


async def _refuse(writer: asyncio.StreamWriter, status: str) -> None:
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    await writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()


async def _until_either(*pumps) -> None:
    """A link that is cut closes both directions, so that the member notices at once."""
    tasks = [asyncio.ensure_future(pump) for pump in pumps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run(ports: dict[int, Routes]) -> None:
    servers = await serve(ports)
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main(argv: list[str]) -> int:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.gateway")
    parser.add_argument("--config", required=True)
    try:
        with open(parser.parse_args(argv).config, encoding="utf-8") as file:
            config = json.load(file)
        asyncio.run(_run({int(port): routes for port, routes in config["ports"].items()}))
    except (OSError, ValueError, KeyError) as error:
        print(f"the gateway cannot start: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
