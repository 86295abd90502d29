"""A recorded history replays as the same, whatever happened to its run; other code is found where it first differs."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from pydantic_ai import Agent, FunctionToolset, InstrumentationSettings, RunContext
from pydantic_ai_dapr import (
    DaprWorkflowAgentRunner,
    Export,
    Operation,
    PayloadLostError,
    ReplayReport,
    patched,
    replay,
    steps,
)
from pydantic_ai_dapr.driver import KeptRuns, drive
from pydantic_ai_dapr.recorded import parse
from pydantic_ai_dapr.run import current_run

from tests.support.recorded_runs import RecordingEngine, Turns, finished, recording, scripted
from tests.support.workflow_engine import Handler

pytestmark = pytest.mark.unit

TURNS = st.lists(
    st.lists(st.tuples(st.sampled_from(["double", "even", "breaks"]), st.integers(0, 9)), min_size=1, max_size=3),
    max_size=4,
)


def replayed(agent: Agent[Any, Any], export: Export) -> ReplayReport:
    """As in a fresh process: through the file, by a runner that never saw the run."""
    through_file = Export.model_validate_json(export.model_dump_json())
    return DaprWorkflowAgentRunner(agent, name="agent", port=1).replay(through_file)


@settings(max_examples=80, deadline=None)
@given(turns=TURNS, seed=st.integers(0, 2**32), moments=st.integers(1, 30), segment=st.sampled_from([2, 5, 100]))
def test_any_recorded_history_replays_as_the_same(turns: Turns, seed: int, moments: int, segment: int) -> None:
    chance = random.Random(seed)
    run, engine = recording(scripted(turns, weather=random.Random(seed)), segment)
    engine.turn()
    for moment in range(moments):  # then it is left as it is, ended or not
        if engine.ended:
            break
        fault = chance.random()
        if fault < 0.1:
            run.replace_worker()
        elif fault < 0.2:
            engine.fail_over(f"epoch {moment}")
        elif fault < 0.3:
            engine.signal()
        elif fault < 0.33:
            engine.terminate()
            break
        for number in chance.sample(sorted(engine.wakeups), chance.randint(0, len(engine.wakeups))):
            engine.serve(number, run.serve)
        if engine.inbox:
            engine.turn()
    report = replayed(scripted(turns), engine.export())
    assert report.same, str(report.difference)
    assert report.events == len(engine.recorded)
    asked = ("taskScheduled", "timerCreated", "executionCompleted")
    assert report.actions == sum(event.WhichOneof("eventType") in asked for event in engine.recorded)


def test_a_run_of_many_segments_replays_and_is_shown_from_its_beginning() -> None:
    turns: Turns = [[("double", n), ("even", 2)] for n in range(6)]
    export = finished(scripted(turns), segment_answers=4)
    started = export.events[1].input
    assert isinstance(started, dict)
    assert "continued" in started
    assert replayed(scripted(turns), export).same
    found = steps(export.history())
    assert [step.ordinal for step in found] == list(range(1, 20))
    assert all(step.ended is not None for step in found)
    assert len(steps(export.events)) < 19
    assert not replayed(scripted(turns, instructions="be brief"), export).same
    with pytest.raises(PayloadLostError):
        replayed(scripted(turns), export.model_copy(update={"payloads": {}}))


def test_a_question_to_somebody_outside_is_not_asked_again() -> None:
    asked: list[str] = []

    async def asks() -> object:
        run = current_run.get()
        assert run is not None
        return await run.call("ask", lambda: asked.append("who?") or {"answer": "nobody"})

    export = record(asks, lambda name, value: value).export()
    assert replay(workflow(asks), export).same
    assert asked == ["who?"]


def test_a_run_with_a_toolset_that_a_decorator_added_replays_as_the_same() -> None:
    def add(agent: Agent[Any, Any]) -> Agent[Any, Any]:
        @agent.toolset(id="late")
        def late(ctx: RunContext[Any]) -> FunctionToolset[Any]:
            return FunctionToolset([half])

        return agent

    def half(n: int) -> int:
        return n // 2

    export = finished(add(scripted([[("half", 2)]])))
    agent = scripted([[("half", 2)]])
    runner = DaprWorkflowAgentRunner(agent, name="agent", port=1)
    add(agent)
    assert runner.replay(export).same


def test_a_failed_run_replays_as_the_same() -> None:
    export = finished(scripted([[("double", 1)], [("breaks", 9)]]))
    assert export.events[-1].error is not None
    assert replayed(scripted([[("double", 1)], [("breaks", 9)]]), export).same


def test_a_turn_that_was_delivered_again_later_replays_as_the_same() -> None:
    turns: Turns = [[("double", 1)]]
    export = finished(scripted(turns))
    events = [parse(one) for one in export.recorded]
    asked = [event.taskScheduled for event in events if event.HasField("taskScheduled")]
    for one in asked:
        told = json.loads(one.input.value)
        one.input.value = json.dumps(told | {"issued_at": told["issued_at"] - 1.25})
    assert asked
    earlier = export.model_copy(update={"recorded": [event.SerializeToString() for event in events]})
    assert replayed(scripted(turns), earlier).same


def test_a_run_whose_process_reported_spans_replays_as_the_same_where_none_does() -> None:
    turns: Turns = [[("double", 1)]]
    Agent.instrument_all(InstrumentationSettings(tracer_provider=TracerProvider()))
    try:
        export = finished(scripted(turns))
    finally:
        Agent.instrument_all(False)
    assert replayed(scripted(turns), export).same


def test_an_agent_whose_tools_changed_differs_at_its_first_request() -> None:
    turns: Turns = [[("double", 1)]]
    changed = scripted(turns)

    @changed.tool_plain
    def halve(n: int) -> int:
        return n // 2

    difference = replayed(changed, finished(scripted(turns))).difference
    assert difference is not None
    assert difference.ordinal == 1
    assert re.search(r'^\+ +"name": "halve"', str(difference), re.MULTILINE)


def test_an_agent_whose_bounds_changed_differs_at_its_first_request() -> None:
    report = DaprWorkflowAgentRunner(scripted([]), name="agent", max_iterations=2, port=1).replay(
        finished(scripted([]))
    )
    assert report.difference is not None
    assert report.difference.ordinal == 1
    assert re.search(r'^\+ +"request_limit": 2', str(report.difference), re.MULTILINE)


def test_another_agents_history_is_refused() -> None:
    export = finished(scripted([]))
    with pytest.raises(ValueError, match=r"is of pydantic_ai_dapr\.agent, not of pydantic_ai_dapr\.other"):
        DaprWorkflowAgentRunner(scripted([]), name="other", port=1).replay(export)


Code = Callable[[], Coroutine[Any, Any, Any]]


async def operate(number: int) -> int:
    run = current_run.get()
    assert run is not None
    ordinal = run.next_ordinal()
    operation = Operation("run-1", "run-1", ordinal, "tool", "operate", 1)
    return await run.call("operate", lambda: {"ordinal": ordinal, "number": number}, operation)


async def original() -> int:
    first = await operate(1)
    await asyncio.sleep(5)
    second, third = await asyncio.gather(operate(2), operate(3))
    return first + second + third


async def with_another_argument() -> int:
    first = await operate(1)
    await asyncio.sleep(5)
    await asyncio.gather(operate(2), operate(33))
    return first


async def in_another_order() -> int:
    first = await operate(1)
    await asyncio.sleep(5)
    await asyncio.gather(operate(3), operate(2))
    return first


async def without_the_timer() -> int:
    await operate(1)
    return sum(await asyncio.gather(operate(2), operate(3)))


async def with_a_longer_timer() -> int:
    await operate(1)
    await asyncio.sleep(6)
    return sum(await asyncio.gather(operate(2), operate(3)))


async def with_one_more_operation() -> int:
    total = await original()
    return total + await operate(4)


async def with_one_more_beside_the_last() -> int:
    await operate(1)
    await asyncio.sleep(5)
    return sum(await asyncio.gather(operate(2), operate(3), operate(4)))


async def with_one_less() -> int:
    await operate(1)
    await asyncio.sleep(5)
    return await operate(2)


async def with_another_result() -> int:
    return await original() + 1


async def that_fails() -> int:
    await operate(1)
    raise LookupError("gone")


KEPT = KeptRuns(1)


@pytest.fixture(autouse=True)
def _unwound() -> Iterator[None]:
    yield
    KEPT.clear()


def workflow(code: Code) -> Callable[[Any, Any], Any]:
    return lambda ctx, value: drive(ctx, code, KEPT)


def record(code: Code, execute: Handler = lambda name, value: value["number"] * 2) -> RecordingEngine:
    engine = RecordingEngine(lambda ctx: workflow(code)(ctx, None))
    engine.run(execute)
    return engine


@pytest.mark.parametrize(
    ("code", "ordinal", "history", "done"),
    [
        (with_another_argument, 3, '"number": 3', '"number": 33'),
        (in_another_order, 2, '"number": 2', '"number": 3'),
        (without_the_timer, 2, '"timer": ', '"activity": "operate"'),
        (with_a_longer_timer, None, '"timer": "2026-01-01T00:00:07+00:00"', '"timer": "2026-01-01T00:00:08+00:00"'),
        (with_one_more_operation, 4, '"end": "completed"', '"number": 4'),
        (with_one_more_beside_the_last, 4, '"end": "completed"', '"number": 4'),
        (with_one_less, 3, '"number": 3', "nothing"),
        (with_another_result, None, '"output": 12', '"output": 13'),
        (that_fails, None, '"timer": ', '"type": "LookupError"'),
    ],
)
def test_other_code_is_found_where_it_first_differs(code: Code, ordinal: int | None, history: str, done: str) -> None:
    export = record(original).export()
    KEPT.clear()
    difference = replay(workflow(code), export).difference
    assert difference is not None
    assert difference.ordinal == ordinal
    lines = str(difference).splitlines()
    assert any(line.startswith("-") and history in line for line in lines), difference
    assert any(line.startswith("+") and done in line for line in lines), difference


async def with_a_child(instance_id: str = "child-1") -> int:
    run = current_run.get()
    assert run is not None
    return await run.call_child("sub", lambda: {"n": 1}, instance_id)


async def with_another_child() -> int:
    return await with_a_child("child-2")


def test_a_child_workflow_is_compared_by_its_name_and_instance() -> None:
    export = record(with_a_child, lambda name, value: value["n"]).export()
    assert replay(workflow(with_a_child), export).same
    KEPT.clear()
    difference = replay(workflow(with_another_child), export).difference
    assert '-  "instance": "child-1"' in str(difference).replace('- "', '-  "')


async def before_the_patch() -> int:
    return await operate(1) + await operate(3)


async def after_the_patch() -> int:
    first = await operate(1)
    second = await operate(2) if patched("twice") else 0
    return first + second + await operate(3)


def test_code_with_a_patch_does_what_runs_before_and_after_it_did() -> None:
    for code in (before_the_patch, after_the_patch):
        export = record(code).export()
        KEPT.clear()
        assert replay(workflow(after_the_patch), export).same
        KEPT.clear()
    assert not replay(workflow(before_the_patch), export).same


def test_what_the_code_does_beyond_an_unfinished_history_is_told() -> None:
    engine = RecordingEngine(lambda ctx: workflow(original)(ctx, None))
    engine.turn()
    del engine.recorded[-1]  # the first operation, which this code schedules in the same turn
    report = replay(workflow(original), engine.export())
    assert report.difference is not None
    assert report.difference.recorded is None
    assert report.difference.position == len(engine.recorded)


def test_a_replay_executes_nothing_and_reports_no_span() -> None:
    calls: list[bool] = []

    async def watches() -> int:
        run = current_run.get()
        assert run is not None
        calls.append(run.is_replaying())
        return await operate(1)

    export = record(watches).export()
    calls.clear()
    assert replay(workflow(watches), export).same
    assert calls == [True]
