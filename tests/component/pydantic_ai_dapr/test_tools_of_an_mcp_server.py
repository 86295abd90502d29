"""Tools of Dapr's own `MCPServer` resource, from a real MCP server process, through the loss of the worker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from pydantic_ai_dapr import AgentRunClient, RunInput, RunStatus, WorkflowUnavailableError, verify

from tests.component.dapr_stack import API_TOKEN, DaprStack, _answers, free_ports, kill, read_lines, until
from tests.component.database import Database
from tests.component.pydantic_ai_dapr import travelling_agent, weather_server
from tests.component.run_index.conftest import server
from tests.component.signed_stack import SIGNER, SignedStack

pytestmark = pytest.mark.component
__all__ = ["server"]
Stack = TypeVar("Stack", bound=DaprStack)
ROOT = str(Path(__file__).parents[3])
TOLD = (
    "['broken', 'extremes', 'forecast']: ['sunny in Rome', 'sunny in Oslo', {'high': 30, 'low': -2}, "
    "'Error executing tool broken"
)


@contextmanager
def with_weather(made: Stack) -> Iterator[Stack]:
    """The stack, whose sidecar has an MCP server among its resources."""
    try:
        if isinstance(made, SignedStack):
            made.start_sentry()
        made.start_control_plane()
        (port,) = free_ports(1)
        calls = made.directory / "calls.jsonl"
        command = [sys.executable, "-m", weather_server.__name__, str(port), str(calls), "0.5"]
        made.spawn("weather", command, PYTHONPATH=ROOT)
        until("the MCP server", lambda: _answers(port))
        resources = made.directory / "resources"
        resources.mkdir()
        (resources / "weather.yaml").write_text(
            "apiVersion: dapr.io/v1alpha1\nkind: MCPServer\nmetadata: {name: weather}\n"
            f"spec:\n  endpoint:\n    streamableHTTP: {{url: 'http://127.0.0.1:{port}/mcp'}}\n"
        )
        made.start_sidecar()
        yield made
    finally:
        made.close()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[DaprStack]:
    with with_weather(DaprStack(tmp_path)) as made:
        yield made


@pytest.fixture
def signed(tmp_path: Path, server: Database) -> Iterator[SignedStack]:
    with with_weather(SignedStack(tmp_path, dsn=server.dsn)) as made:
        yield made


def worker(stack: DaprStack, name: str, sidecar: int = 0) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", travelling_agent.__name__, str(stack.sidecars[sidecar].grpc_port), API_TOKEN]
    return stack.spawn(f"worker-{name}", command, PYTHONPATH=ROOT)


def client(stack: DaprStack, sidecar: int = 0) -> AgentRunClient:
    return AgentRunClient(travelling_agent.NAME, port=stack.sidecars[sidecar].grpc_port, api_token=API_TOKEN)


def started(client: AgentRunClient) -> bool:
    try:
        client.start("run-1", RunInput(run_id="run-1", prompt="go"), timeout=1.0)
    except WorkflowUnavailableError:
        return False
    return True


def end(client: AgentRunClient) -> RunStatus:
    ended: list[RunStatus] = []

    def look() -> bool:
        status = client.status("run-1")
        ended[:] = [status] if status is not None and status.is_terminal else []
        return bool(ended)

    until("the end of the run", look, seconds=60)
    return ended[0]


def output(status: RunStatus) -> str:
    assert status.status == "completed", status.error
    assert isinstance(status.output, dict)
    return str(status.output["output"])


def cities(stack: DaprStack) -> list[object]:
    return [line["city"] for line in read_lines(stack.directory / "calls.jsonl")]


def test_a_call_outlives_the_worker_that_made_it(stack: DaprStack) -> None:
    process, asks = worker(stack, "first"), client(stack)
    until("a worker", lambda: started(asks))
    until("the second call", lambda: "Oslo" in cities(stack))
    kill(process)
    worker(stack, "second")
    assert output(end(asks)).startswith(TOLD)
    assert cities(stack) == ["Rome", "Oslo"]
    names = [event.name for event in asks.history("run-1") if event.type == "childWorkflowInstanceCreated"]
    assert names[:2] == ["dapr.internal.mcp.weather.ListTools", "dapr.internal.mcp.weather.CallTool.forecast"]
    assert len(names) == 5
    asks.close()


def test_a_call_whose_wake_ups_are_lost_is_made_once_more(stack: DaprStack) -> None:
    process, asks = worker(stack, "first"), client(stack)
    until("a worker", lambda: started(asks))
    until("the second call", lambda: "Oslo" in cities(stack))
    kill(process)
    asks.close()
    stack.end("daprd-0")
    stack.wipe_scheduler()
    stack.start_sidecar()
    worker(stack, "second", sidecar=1)
    asks = client(stack, sidecar=1)

    def recovered() -> bool:
        try:
            asks.recover("run-1", "epoch 2")
        except WorkflowUnavailableError:
            return False
        return True

    until("the worker", recovered)
    assert output(end(asks)).startswith(TOLD)
    assert cities(stack) == ["Rome", "Oslo", "Oslo"]
    asks.close()


def test_signed_histories_prove_what_the_server_was_asked_though_the_worker_died(signed: SignedStack) -> None:
    process, asks = worker(signed, "first"), client(signed)
    until("a worker", lambda: started(asks))
    until("the second call", lambda: "Oslo" in cities(signed))
    kill(process)
    worker(signed, "second")
    assert output(end(asks)).startswith(TOLD)
    assert cities(signed) == ["Rome", "Oslo"]
    export = asks.export("run-1", signed.store())
    found = verify(export, signed.root, SIGNER)
    assert (found.valid, found.reason, found.ended) == (True, None, True)
    asked = [event.input for event in export.events if event.type == "childWorkflowInstanceCreated"]
    assert asked[1] == {"arguments": {"city": "Rome"}}
    asks.close()
