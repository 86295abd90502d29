"""A workflow with steps of its own and agents between them, on a real sidecar, through the loss of its worker."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic_ai_dapr import AgentRunClient, RunStatus, WorkflowUnavailableError

from tests.component.dapr_stack import API_TOKEN, DaprStack, dapr_stack, kill, read_lines, until
from tests.component.pydantic_ai_dapr import ordering_workflow

pytestmark = pytest.mark.component
STEPS_OF_A_RUN = 13


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[DaprStack]:
    with dapr_stack(tmp_path) as started:
        yield started


def worker(stack: DaprStack, attempts: Path, step_seconds: float, sidecar: int = 0) -> subprocess.Popen[bytes]:
    port = stack.sidecars[sidecar].grpc_port
    command = [sys.executable, "-m", ordering_workflow.__name__, str(port), API_TOKEN, str(step_seconds), str(attempts)]
    return stack.spawn(
        f"worker-{attempts.stem}", command, PYTHONPATH=str(Path(__file__).parents[3]), DAPR_API_TOKEN=API_TOKEN
    )


def client(stack: DaprStack, sidecar: int = 0) -> AgentRunClient:
    return AgentRunClient("any", port=stack.sidecars[sidecar].grpc_port, api_token=API_TOKEN)


def started(client: AgentRunClient) -> bool:
    try:
        if client.status("order-1") is None:
            client.hub.start("order-1", ordering_workflow.WORKFLOW, 8, 1.0)
    except WorkflowUnavailableError:
        return False
    return True


def end(client: AgentRunClient) -> RunStatus:
    ended: list[RunStatus] = []

    def look() -> bool:
        status = client.status("order-1")
        ended[:] = [status] if status is not None and status.is_terminal else []
        return bool(ended)

    until("the end of the workflow", look, seconds=60)
    return ended[0]


def keys(attempts: Path, phase: str) -> Counter[object]:
    return Counter(line["key"] for line in read_lines(attempts) if line["phase"] == phase)


OUTPUT = ["order 8", "counted to 6", "counted to 6", 7, "order 4"]


@pytest.mark.parametrize("steps", [4, STEPS_OF_A_RUN + 4], ids=["in the first run", "in the second run"])
def test_a_workflow_whose_worker_is_killed_goes_on_where_its_agent_was(
    stack: DaprStack, tmp_path: Path, steps: int
) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    process, asks = worker(stack, first, 0.2), client(stack)
    until("a worker", lambda: started(asks))
    until("some steps", lambda: len(keys(first, "ended")) >= steps)
    kill(process)
    worker(stack, second, 0.0)
    status = end(asks)
    assert (status.status, status.output) == ("completed", OUTPUT)
    assert set(keys(first, "started")) | set(keys(second, "started")) == {f"order-1:{n}" for n in range(1, 27)}
    assert len(set(keys(first, "ended")) & set(keys(second, "started"))) <= 1  # ended when killed, and nobody was told
    assert keys(first, "own") + keys(second, "own") == {"look_up 8": 1, "look_up 4": 1}
    asks.close()


def test_the_second_run_of_a_workflow_without_wake_ups_goes_on_at_recover(stack: DaprStack, tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    process, asks = worker(stack, first, 0.4), client(stack)
    until("a worker", lambda: started(asks))
    until("steps of the second run", lambda: len(keys(first, "ended")) >= STEPS_OF_A_RUN + 4)
    kill(process)
    asks.close()
    stack.end("daprd-0")
    stack.wipe_scheduler()
    stack.start_sidecar()
    asks = client(stack, sidecar=1)
    worker(stack, second, 0.0, sidecar=1)

    def recovered() -> bool:
        try:
            asks.recover("order-1")
        except WorkflowUnavailableError:
            return False
        return True

    until("the worker", recovered)
    status = end(asks)
    assert (status.status, status.output) == ("completed", OUTPUT)
    assert len(set(keys(first, "ended")) & set(keys(second, "started"))) <= 1
    asks.close()
