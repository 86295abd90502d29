"""An agent whose tools an MCP server in another process has: durably it gives what it gives plainly, killed or not."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset

from tests.component.dapr_stack import free_ports
from tests.support.conformance import brought_to_its_end, outcome, plain, started
from tests.support.crash_points import CrashingRun, Point
from tests.support.scenarios import Scenario
from tests.support.scenarios.scenario import durable, script

pytestmark = pytest.mark.component
SERVER = str(Path(__file__).with_name("degrees_server.py"))


def weather(client: Callable[[], Any]) -> Scenario:
    def tools_of_a_server() -> Agent[Any, Any]:
        model = script([("degrees", {"city": "Bern"})], ["done"])
        return durable(model, toolsets=[MCPToolset(client(), id="weather", include_instructions=True, init_timeout=60)])

    return Scenario(tools_of_a_server)


def await_port(port: int, seconds: float) -> None:
    deadline, refused = time.monotonic() + seconds, "never asked"
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError as error:
            refused = str(error)
            time.sleep(0.05)
    raise TimeoutError(f"the server did not listen on {port} in {seconds} s: {refused}")


@pytest.fixture(scope="module", params=["stdio", "http"])
def scenario(request: pytest.FixtureRequest) -> Iterator[Scenario]:
    if request.param == "stdio":
        # Where only the loop of a process has died, what a live one would keep open is bound to that loop.
        yield weather(lambda: StdioTransport(sys.executable, [SERVER], keep_alive=False))
        return
    (port,) = free_ports(1)
    server = subprocess.Popen([sys.executable, SERVER, str(port)], stderr=subprocess.DEVNULL)
    try:
        await_port(port, seconds=60)
        yield weather(lambda: f"http://127.0.0.1:{port}/mcp")
    finally:
        server.kill()
        server.wait(10)


def test_it_gives_what_it_gives_plainly(scenario: Scenario) -> None:
    assert plain(scenario).output == "done"
    assert outcome(lambda: brought_to_its_end(started(scenario))) == plain(scenario)


@pytest.mark.parametrize("point", [Point.EXECUTED, Point.GIVEN, Point.WOKEN], ids=lambda point: point.name.lower())
def test_it_does_so_whenever_its_process_dies(scenario: Scenario, point: Point) -> None:
    run = CrashingRun(scenario, point)
    assert outcome(lambda: brought_to_its_end(run)) == plain(scenario)
    assert run.repeated == []
    assert run.passed
