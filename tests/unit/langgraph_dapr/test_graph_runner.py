"""Runs are started, awaited, followed and looked at through their runner."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from langgraph_dapr.past import is_idle
from pydantic_ai_dapr import RunExistsError, WorkflowUnavailableError

from tests.support import graphs
from tests.support.durable_graphs import RUN, DurableGraphRun

pytestmark = pytest.mark.unit
GIVEN: Any = {"number": 0, "log": ["given"]}


def test_invoke_gives_what_the_graph_gives() -> None:
    run = DurableGraphRun(graphs.fan_out(), None, by_itself=True)
    assert run.runner.invoke(GIVEN, workflow_id=RUN) == asyncio.run(graphs.fan_out().ainvoke(GIVEN))
    with pytest.raises(RunExistsError):
        run.runner.schedule(GIVEN, workflow_id=RUN)


def test_invoke_returns_with_what_is_asked_and_wait_with_the_output() -> None:
    run = DurableGraphRun(graphs.asking(), None, by_itself=True)
    output = run.runner.invoke(GIVEN, workflow_id=RUN)
    (asked,) = output.pop("__interrupt__")
    assert (output, asked.value) == ({"number": 1, "log": ["given", "first"]}, "your name?")
    run.runner.resume(RUN, {asked.id: "Ada"})
    with pytest.raises(TimeoutError, match=r"run-1 did not end within 0\.01 s; it was running when last seen"):
        run.runner.wait(RUN, timeout=0.01, poll_interval=0.01)
    run.runner.resume(RUN, 36)
    assert run.runner.wait(RUN)["log"] == ["given", "first", "Ada is 36", "other", "last4"]


def test_a_run_is_told_from_its_start_to_its_end() -> None:
    async def told(graph: graphs.Graph, answer: Any = None) -> list[dict[str, Any]]:
        run = DurableGraphRun(graph, None, by_itself=True)
        events: list[dict[str, Any]] = []
        async for event in run.runner.run_async(GIVEN, "thread", workflow_id=RUN, poll_interval=0.01):
            events.append(event)
            if event["type"] == "workflow_interrupted":
                assert [one["value"] for one in event["interrupts"]] == ["?"]
                run.runner.resume(RUN, answer)
        return events

    ask = StateGraph(graphs.State).add_node("ask", lambda state: {"log": [interrupt("?")]}).add_edge(START, "ask")
    events = asyncio.run(told(ask.compile(), "yes"))
    assert [one["type"] for one in events] == [
        "workflow_started",
        "workflow_status_changed",
        "node_started",
        "workflow_interrupted",
        "node_started",
        "node_completed",
        "workflow_status_changed",
        "workflow_completed",
    ]
    assert events[0] == {"type": "workflow_started", "workflow_id": RUN, "thread_id": "thread"}
    assert (events[5]["name"], events[5]["output"]) == ("ask", {"log": ["yes"]})
    assert events[-1]["output"] == {"number": 0, "log": ["given", "yes"]}

    def fails(state: graphs.State) -> graphs.State:
        raise PermissionError("no")

    failing = StateGraph(graphs.State).add_node("fails", fails).add_edge(START, "fails").compile()
    events = asyncio.run(told(failing))
    assert [one["type"] for one in events][2:] == [
        "node_started",
        "node_failed",
        "workflow_status_changed",
        "workflow_failed",
    ]
    assert events[-1]["error"] == {"type": "PermissionError", "message": "no"}


def test_the_state_of_a_run_is_that_of_its_last_step() -> None:
    run = DurableGraphRun(graphs.sequential(), GIVEN)
    state = run.runner.get_state(RUN)
    assert state is not None
    assert (state.values, state.next) == ({}, ())
    run.turn()
    state = run.runner.get_state(RUN)
    assert state is not None
    assert (state.status.status, state.values, state.next, state.interrupts) == ("running", GIVEN, ("first",), ())
    assert run.runner.interrupts(RUN) == []
    run.finish()
    state = run.runner.get_state(RUN)
    assert state is not None
    assert (state.status.status, state.values, state.next) == ("completed", run.finish(), ())
    assert run.runner.get_workflow_status(RUN) == state.status.model_dump(mode="json")


def test_a_run_that_does_not_exist_is_told_so() -> None:
    run = DurableGraphRun(graphs.sequential(), GIVEN)
    assert run.runner.get_state("other") is None
    assert run.runner.get_workflow_status("other") is None
    assert run.runner.interrupts("other") == []
    with pytest.raises(LookupError, match="there is no run other"):
        run.runner.checkpoints("other")
    with pytest.raises(ValueError, match="run other waits for no answer"):
        run.runner.resume("other", 1)


def test_a_history_of_another_graph_is_told_so() -> None:
    run = DurableGraphRun(graphs.fan_out(), GIVEN)
    run.finish()
    other = DurableGraphRun(graphs.sequential(), GIVEN)
    other.engine = run.engine
    with pytest.raises(ValueError, match="run-1 was started with another version of the graph"):
        other.runner.checkpoints(RUN)


def test_a_sidecar_that_does_not_answer_for_a_moment_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run = DurableGraphRun(graphs.sequential(), GIVEN)
    output = run.finish()
    status, asked = run.status, list[str]()

    def seldom(*args: Any, **options: Any) -> Any:
        asked.append("status")
        if len(asked) < 3:
            raise WorkflowUnavailableError("busy")
        return status(*args, **options)

    monkeypatch.setattr(run, "status", seldom)
    assert run.runner.wait(RUN, poll_interval=0.01) == output
    asked.clear()
    monkeypatch.setattr("langgraph_dapr.runner.UNAVAILABLE_SECONDS", 0.0)
    with pytest.raises(WorkflowUnavailableError, match="busy"):
        run.runner.wait(RUN, poll_interval=0.01)


def test_a_run_that_executes_something_beside_its_question_is_not_idle() -> None:
    run = DurableGraphRun(graphs.asking(), GIVEN)
    run.turn()
    assert run.engine is not None
    run.engine.serve(next(iter(run.engine.wakeups)), run.serve)
    run.turn()
    ask, other = run.engine.wakeups
    for number, idle in ((ask, False), (other, True)):
        run.engine.serve(number, run.serve)
        run.turn()
        assert is_idle(run.runner.client.history(RUN)) == idle
    assert len(run.runner.interrupts(RUN)) == 1
    run.replace_worker()


def test_what_was_answered_twice_leaves_one_checkpoint() -> None:
    run = DurableGraphRun(graphs.sequential(), GIVEN)
    run.turn()
    assert run.engine is not None
    run.engine.signal()
    run.turn()
    for number in list(run.engine.wakeups):
        run.engine.serve(number, run.serve)
    run.finish()
    assert [one.values.get("number") for one in run.runner.checkpoints(RUN)] == [None, 0, 1, 2, 3]


def test_retried_and_repeated_attempts_leave_one_checkpoint() -> None:
    tries: list[int] = []

    def fails_once(state: graphs.State) -> graphs.State:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("lost")
        return {"log": ["done"]}

    graph = StateGraph(graphs.State).add_sequence([("a", fails_once), ("b", graphs.says("b"))]).add_edge(START, "a")
    run = DurableGraphRun(graph.compile(), GIVEN)
    run.turn()
    assert run.engine is not None
    first = next(iter(run.engine.wakeups))
    run.engine.signal()
    run.turn()
    again = max(run.engine.wakeups)
    for number in (first, again):
        run.engine.serve(number, run.serve)
    run.finish()
    assert [one.values.get("log") for one in run.runner.checkpoints(RUN)] == [
        [],
        ["given"],
        ["given", "done"],
        ["given", "done", "b"],
    ]
