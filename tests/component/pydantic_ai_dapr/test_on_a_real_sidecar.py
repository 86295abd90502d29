"""Runs on a real sidecar: they end as plain ones, survive their worker and their wake-ups, and answer in time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
from pydantic_ai_dapr import (
    AgentRunClient,
    DaprDurability,
    DaprWorkflowAgentRunner,
    HistoryEvent,
    RunExistsError,
    RunFailedError,
    RunInput,
    WorkflowUnavailableError,
)

from tests.component.dapr_stack import API_TOKEN, DaprStack, dapr_stack, free_ports, kill, read_lines, until
from tests.component.pydantic_ai_dapr import counting_agent

pytestmark = pytest.mark.component


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[DaprStack]:
    with dapr_stack(tmp_path) as started:
        yield started


@pytest.fixture
def client(stack: DaprStack) -> Iterator[AgentRunClient]:
    made = AgentRunClient(counting_agent.NAME, port=stack.sidecars[0].grpc_port, api_token=API_TOKEN)
    yield made
    made.close()


def worker(stack: DaprStack, attempts: Path, step_seconds: float, sidecar: int = 0) -> subprocess.Popen[bytes]:
    port = stack.sidecars[sidecar].grpc_port
    command = [sys.executable, "-m", counting_agent.__name__, str(port), API_TOKEN, str(step_seconds), str(attempts)]
    return stack.spawn(f"worker-{attempts.stem}", command, PYTHONPATH=str(Path(__file__).parents[3]))


def keys(attempts: Path, phase: str) -> Counter[object]:
    return Counter(line["key"] for line in read_lines(attempts) if line["phase"] == phase)


def ended(client: AgentRunClient, run_id: str) -> object:
    status = client.status(run_id)
    return status if status is not None and status.is_terminal else None


def test_runs_end_as_plain_ones_and_can_be_followed(stack: DaprStack, client: AgentRunClient) -> None:
    runner = counting_agent.runner(stack.sidecars[0].grpc_port, API_TOKEN, 0.0)
    runner.start()
    try:
        result = runner.run_sync("count", deps=3, run_id="run-1")
        plain = counting_agent.build(0.0).run_sync("count", deps=3)
        assert result.output == plain.output == "counted to 6"
        assert result.usage.requests == plain.usage.requests == 7
        assert len(result.messages) == len(plain.all_messages())
        assert asyncio.run(runner.run("count", deps=3)).output == "counted to 6"
        with pytest.raises(RunExistsError):
            runner.schedule("count", deps=3, run_id="run-1")
        client.start("run-1", RunInput(run_id="run-1"))  # changes nothing
        names = [event.type for event in client.history("run-1")]
        assert names.count("taskCompleted") == 13
        assert names[-1] == "executionCompleted"
        light = client.status("run-1", payloads=False)
        assert light is not None
        assert (light.status, light.output) == ("completed", None)
    finally:
        runner.shutdown()


def test_a_run_that_cannot_succeed_is_failed_with_its_cause(stack: DaprStack) -> None:
    agent = Agent(TestModel(), name="failing", capabilities=[DaprDurability()])

    @agent.tool_plain
    def breaks() -> str:
        raise PermissionError("not yours")

    runner = DaprWorkflowAgentRunner(agent, name="failing", port=stack.sidecars[0].grpc_port, api_token=API_TOKEN)
    runner.start()
    try:
        with pytest.raises(RunFailedError, match="not yours") as failed:
            runner.run_sync("go", run_id="run-1")
        assert failed.value.status.status == "failed"
    finally:
        runner.shutdown()


def test_a_killed_worker_loses_only_what_it_had_in_hand(
    stack: DaprStack, client: AgentRunClient, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    process = worker(stack, first, 0.4)
    until("a worker", lambda: _scheduled(client))
    until("two counted steps", lambda: len(keys(first, "ended")) >= 4)
    kill(process)
    worker(stack, second, 0.0)
    until("the end of the run", lambda: ended(client, "run-1"))
    status = client.status("run-1")
    assert status is not None
    assert status.status == "completed"
    again = set(keys(first, "ended")) & set(keys(second, "started"))
    assert len(again) <= 1  # it had ended when its worker was killed, and nobody was told
    assert not _completed_before(client, second)


def test_a_run_without_its_wake_ups_goes_on_at_recover(
    stack: DaprStack, client: AgentRunClient, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    process = worker(stack, first, 0.4)
    until("a worker", lambda: _scheduled(client))
    until("two counted steps", lambda: len(keys(first, "ended")) >= 4)
    kill(process)
    stack.end("daprd-0")
    stack.wipe_scheduler()
    stack.start_sidecar()
    fresh = AgentRunClient(counting_agent.NAME, port=stack.sidecars[1].grpc_port, api_token=API_TOKEN)
    worker(stack, second, 0.0, sidecar=1)
    until("the worker", lambda: _recovered(fresh))
    until("the end of the run", lambda: ended(fresh, "run-1"))
    status = fresh.status("run-1")
    assert status is not None
    assert status.status == "completed"
    assert not _completed_before(fresh, second)


def test_two_workers_share_runs_and_one_takes_over_from_the_other(stack: DaprStack, tmp_path: Path) -> None:
    stack.start_sidecar()
    files = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    workers = [worker(stack, file, 0.2, sidecar=number) for number, file in enumerate(files)]
    client = AgentRunClient(counting_agent.NAME, port=stack.sidecars[1].grpc_port, api_token=API_TOKEN)
    runs = [f"run-{number}" for number in range(8)]
    until("a worker", lambda: _scheduled(client, "run-0"))
    for run in runs[1:]:
        client.start(run, RunInput(run_id=run, prompt="count", deps=3))
    until("work of both", lambda: all(len(keys(file, "started")) > 3 for file in files))
    kill(workers[0])
    stack.end("daprd-0")
    for run in runs:
        until(f"the end of {run}", lambda run=run: ended(client, run))
        status = client.status(run)
        assert status is not None
        assert status.status == "completed"


def test_a_start_without_a_worker_ends_in_time(stack: DaprStack, client: AgentRunClient) -> None:
    runner = counting_agent.runner(stack.sidecars[0].grpc_port, API_TOKEN, 0.0)
    began = time.monotonic()
    with pytest.raises(WorkflowUnavailableError):
        runner.schedule("count", deps=1, run_id="run-1", timeout=1.0)
    assert time.monotonic() - began < 5
    with pytest.raises(TimeoutError, match=r"run-1 did not end within 0\.2 s"):
        runner.wait("run-1", timeout=0.2)


def test_a_terminated_run_is_told_from_a_failed_one(stack: DaprStack, client: AgentRunClient, tmp_path: Path) -> None:
    worker(stack, tmp_path / "first.jsonl", 0.3)
    until("a worker", lambda: _scheduled(client))
    client.terminate("run-1")
    until("the end of the run", lambda: ended(client, "run-1"))
    status = client.status("run-1")
    assert status is not None
    assert status.status == "terminated"


def test_a_sidecar_that_is_not_there_is_told_within_the_timeout() -> None:
    (port,) = free_ports(1)
    client = AgentRunClient(counting_agent.NAME, port=port, timeout=0.5)
    with pytest.raises(WorkflowUnavailableError, match=r"UNAVAILABLE|DEADLINE_EXCEEDED"):
        client.status("run-1")
    client.close()


def test_a_wrong_token_is_refused(stack: DaprStack) -> None:
    client = AgentRunClient(counting_agent.NAME, port=stack.sidecars[0].grpc_port, api_token="wrong")
    with pytest.raises(WorkflowUnavailableError, match=r"UNAUTHENTICATED|PERMISSION_DENIED"):
        client.status("run-1")
    client.close()


def _scheduled(client: AgentRunClient, run: str = "run-1") -> bool:
    try:
        client.start(run, RunInput(run_id=run, prompt="count", deps=3), timeout=1.0)
    except WorkflowUnavailableError:
        return False
    return True


def _recovered(client: AgentRunClient) -> bool:
    try:
        client.recover("run-1")
    except WorkflowUnavailableError:
        return False
    return True


def _completed_before(client: AgentRunClient, attempts: Path) -> list[object]:
    """Operations that the worker began although the history had their result."""
    events = client.history("run-1")
    ordinals = {event.task_id: _ordinal(event) for event in events if event.type == "taskScheduled"}
    done: dict[object, float] = {}
    for event in events:
        if event.type == "taskCompleted":
            done.setdefault(ordinals.get(event.task_id), event.timestamp.timestamp())
    began = [line for line in read_lines(attempts) if line["phase"] == "started"]
    return [line for line in began if float(str(line["at"])) > done.get(line["ordinal"], float("inf"))]


def _ordinal(event: HistoryEvent) -> object:
    assert isinstance(event.input, dict)
    return event.input["ordinal"]
