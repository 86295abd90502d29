"""A supervisor that does not do what it was told is an error of its own kind, whatever it says instead."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from region_agent.supervisor import Supervisor, SupervisorError

from tests.unit.region_agent.stand_ins import client_of

pytestmark = pytest.mark.unit


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """A server at the unix socket that says `answer` to whoever asks first."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{_directory(path)}/{path.name}")
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(5)


def _directory(path: Path) -> int:
    return os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)


def test_a_socket_may_have_a_longer_path_than_the_system_allows(tmp_path: Path) -> None:
    directory = tmp_path / ("a-long-name-" * 8) / ("another-long-name-" * 8)
    directory.mkdir(parents=True)
    path = directory / "supervisor.sock"
    with answering(path, b'{"data": [{"name": "daprd-1", "pid": 7, "is_running": true, "restarts": 0}]}'):
        assert asyncio.run(Supervisor(path).running()) == {"daprd-1": 7}


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={}),
        httpx.Response(200, json={"data": None}),
        httpx.Response(200, json={"data": [{"name": "daprd-1"}]}),
        httpx.Response(500, text="panic"),
        httpx.ReadTimeout("silent"),
    ],
    ids=["no-json", "no-data", "null", "another-shape", "error", "silence"],
)
@pytest.mark.parametrize("ask", ["running", "start", "stop"])
def test_an_answer_that_makes_no_sense_is_an_error_of_the_supervisor(
    tmp_path: Path, answer: httpx.Response | Exception, ask: str
) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    supervisor = Supervisor(tmp_path / "supervisor.sock")
    supervisor._client = client_of(respond)
    supervisor._client.base_url = "http://supervisor"
    with pytest.raises(SupervisorError, match="GET /processes"):
        asyncio.run(supervisor.running() if ask == "running" else getattr(supervisor, ask)("daprd-1"))


@pytest.mark.parametrize(
    ("running", "status", "starts", "stops"),
    [
        (True, "Running", False, True),
        (False, "Restarting", False, True),
        (False, "Pending", False, True),
        (False, "Completed", True, False),
        (False, "Disabled", True, False),
    ],
)
def test_a_process_that_is_about_to_be_restarted_can_be_stopped(
    tmp_path: Path, running: bool, status: str, starts: bool, stops: bool
) -> None:
    asked: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path}")
        return httpx.Response(
            200, json={"data": [{"name": "daprd-1", "pid": 7, "is_running": running, "status": status}]}
        )

    supervisor = Supervisor(tmp_path / "supervisor.sock")
    supervisor._client = client_of(respond)
    supervisor._client.base_url = "http://supervisor"

    async def both() -> None:
        await supervisor.start("daprd-1")
        await supervisor.stop("daprd-1")

    asyncio.run(both())
    assert ("POST /process/start/daprd-1" in asked, "PATCH /process/stop/daprd-1" in asked) == (starts, stops)
