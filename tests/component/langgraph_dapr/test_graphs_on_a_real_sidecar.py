"""Graphs on a real sidecar: they end as plain ones, and outlive their workers, wake-ups and questions."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from langgraph_dapr import DaprWorkflowGraphRunner
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
from pydantic_ai_dapr import DaprWorkflowAgentRunner, RunFailedError, WorkflowUnavailableError, start_together

from tests.component.dapr_stack import API_TOKEN, DaprStack, dapr_stack, kill, read_lines, until
from tests.component.langgraph_dapr import counting_graph

pytestmark = pytest.mark.component
GIVEN: Any = {"limit": 4, "counted": []}
COUNTED = [f"{side} {number}" for number in range(1, 5) for side in ("left", "right")]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[DaprStack]:
    with dapr_stack(tmp_path) as started:
        yield started


def worker(stack: DaprStack, attempts: Path, step_seconds: float, sidecar: int = 0) -> subprocess.Popen[bytes]:
    port = stack.sidecars[sidecar].grpc_port
    command = [sys.executable, "-m", counting_graph.__name__, str(port), API_TOKEN, str(step_seconds), str(attempts)]
    return stack.spawn(f"worker-{attempts.stem}", command, PYTHONPATH=str(Path(__file__).parents[3]))


def replaced(
    stack: DaprStack,
    asker: DaprWorkflowGraphRunner,
    process: subprocess.Popen[bytes],
    meanwhile: Callable[[], None] = lambda: None,
) -> DaprWorkflowGraphRunner:
    """Kill a worker and its sidecar, which fail together, and ask at another sidecar from now on."""
    asker.shutdown()
    kill(process)
    stack.end(f"daprd-{len(stack.sidecars) - 1}")
    meanwhile()
    return counting_graph.runner(stack.start_sidecar().grpc_port, API_TOKEN, 0.0)


def executed(attempts: Path, phase: str) -> set[tuple[str, int]]:
    return {(line["key"], line["attempt"]) for line in read_lines(attempts) if line["phase"] == phase}


def scheduled(asker: DaprWorkflowGraphRunner) -> bool:
    try:
        if asker.client.status("run-1") is None:
            asker.schedule(GIVEN, workflow_id="run-1", timeout=1.0)
    except WorkflowUnavailableError:
        return False
    return True


def resumed(asker: DaprWorkflowGraphRunner) -> bool:
    try:
        asker.resume("run-1", "yes")
    except WorkflowUnavailableError:
        return False
    return True


def completed(asker: DaprWorkflowGraphRunner) -> set[tuple[str, int]]:
    """The operations' attempts of which the history has the result."""
    events = asker.client.history("run-1")
    inputs: Any = {event.task_id: event.input for event in events if event.type == "taskScheduled"}
    done = [inputs[event.task_id] for event in events if event.type == "taskCompleted"]
    return {(f"{one['run']}:{one['ordinal']}", one["attempt"]) for one in done}


def test_a_killed_worker_loses_only_what_it_had_in_hand_and_a_question_waits(stack: DaprStack, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.jsonl" for number in range(3)]
    asker = counting_graph.runner(stack.sidecars[0].grpc_port, API_TOKEN, 0.0)
    first = worker(stack, files[0], 0.4)
    until("a worker", lambda: scheduled(asker))
    until("some nodes", lambda: len(executed(files[0], "ended")) >= 5)
    asker = replaced(stack, asker, first)
    before = completed(asker)
    second = worker(stack, files[1], 0.0, sidecar=1)
    until("the question", lambda: asker.interrupts("run-1"))
    assert not before & executed(files[1], "started")
    asker = replaced(stack, asker, second, stack.wipe_scheduler)
    assert [(one.node, one.value) for one in asker.interrupts("run-1")] == [("ask", "counted 8, right?")]
    before = completed(asker)
    worker(stack, files[2], 0.0, sidecar=2)
    until("the third worker", lambda: resumed(asker))
    assert asker.wait("run-1", timeout=30.0, poll_interval=0.1) == {
        "limit": 4,
        "counted": [*COUNTED, "noted as run-1:14"],
        "answer": "yes",
    }
    assert not before & executed(files[2], "started")
    steps = asker.checkpoints("run-1")
    assert [len(one.values.get("counted", [])) for one in steps] == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 8, 9]
    asker.shutdown()


def test_a_graph_beside_an_agent_is_invoked_answered_followed_and_fails_with_its_cause(stack: DaprStack) -> None:
    port = stack.sidecars[0].grpc_port
    graphs = counting_graph.runner(port, API_TOKEN, 0.0)
    agents = DaprWorkflowAgentRunner(Agent(TestModel()), name="beside", port=port, api_token=API_TOKEN)
    start_together([graphs, agents])
    try:
        output = graphs.invoke(GIVEN, workflow_id="run-1", poll_interval=0.1, timeout=30.0)
        assert output["counted"] == COUNTED
        assert [one.value for one in output["__interrupt__"]] == ["counted 8, right?"]
        graphs.resume("run-1", "no")
        with pytest.raises(RunFailedError, match="PermissionError: not yours to count"):
            graphs.wait("run-1", timeout=30.0)
        status = graphs.get_workflow_status("run-1")
        assert status is not None
        assert status["status"] == "failed"

        async def told() -> list[str]:
            types: list[str] = []
            async for event in graphs.run_async({"limit": 1, "counted": []}, workflow_id="run-2", poll_interval=0.1):
                types.append(event["type"])
                if event["type"] == "workflow_interrupted":
                    graphs.resume("run-2", "yes")
            return types

        types = asyncio.run(told())
        assert (types[0], types[1], types[-1]) == ("workflow_started", "workflow_status_changed", "workflow_completed")
        assert types.count("node_completed") == 5
        assert agents.run_sync("hello").output == "success (no tool calls)"
        graphs.purge_workflow("run-2")
        assert graphs.get_state("run-2") is None
    finally:
        graphs.shutdown()
        agents.shutdown()


def test_a_graph_that_has_changed_stalls_its_run_until_one_that_fits_is_back(
    stack: DaprStack, caplog: pytest.LogCaptureFixture
) -> None:
    def graph(*names: str) -> Any:
        built = StateGraph(counting_graph.State)
        for name in names:
            built.add_node(name, lambda state: {"answer": interrupt("go on?")} if state["limit"] else {})
        for before, after in pairwise((START, *names, END)):
            built.add_edge(before, after)
        return built.compile()

    def hosting(*names: str) -> DaprWorkflowGraphRunner:
        made = DaprWorkflowGraphRunner(
            graph(*names), name="changing", port=stack.sidecars[-1].grpc_port, api_token=API_TOKEN
        )
        made.start()
        return made

    old = hosting("ask")
    run = old.schedule({"limit": 1, "counted": []})
    until("the question", lambda: old.interrupts(run))
    old.shutdown()
    new = hosting("check", "ask")
    new.client.hub.raise_event(run, "anything", None, 5.0)
    until("the stalled run", lambda: getattr(new.client.status(run), "status", "") == "stalled")
    assert "the code does something else at event" in caplog.text
    assert '"activity": "langgraph_dapr.changing.ask"' in caplog.text
    assert new.invoke({"limit": 0, "counted": []}) == {"limit": 0, "counted": []}
    new.shutdown()
    stack.end("daprd-0")
    stack.start_sidecar()
    back = hosting("ask")
    try:
        until("the answer", lambda: answered(back, run))
        assert back.wait(run, timeout=30)["answer"] == "yes"
    finally:
        back.shutdown()


def answered(runner: DaprWorkflowGraphRunner, run: str) -> bool:
    try:
        runner.resume(run, "yes")
    except WorkflowUnavailableError:
        return False
    return True
