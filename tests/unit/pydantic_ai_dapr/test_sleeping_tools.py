"""A tool that sleeps holds nothing meanwhile, and goes on where it was: what it has done is not done again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from pydantic_ai import Agent, FunctionToolset, RunContext
from pydantic_ai.exceptions import RunTimedOut
from pydantic_ai.usage import RunUsage
from pydantic_ai_dapr import (
    DaprDurability,
    RemoteToolset,
    Retry,
    ToolHost,
    current_operation,
    durable_sleep,
    durable_step,
    remote_tools,
    steps,
)
from pydantic_ai_dapr.client import operations_of
from pydantic_ai_dapr.context import operation_scope
from pydantic_ai_dapr.host import OperationHost
from pydantic_ai_dapr.types import Operation

from tests.support.crash_points import CUTS, CrashingRun, Point
from tests.support.durable_agents import DurableRun
from tests.support.neighbour import Neighbour
from tests.support.recorded_runs import recorded
from tests.support.scenarios.scenario import Scenario, script

pytestmark = pytest.mark.unit
DAYS = timedelta(days=2)
BOUNDS = Retry(attempts=2, first_seconds=1)
Tool = Callable[..., Awaitable[Any]]


def sleeper(tool: Tool, *turns: list[Any], **options: Any) -> Agent[Any, Any]:
    """An agent that calls its only tool once, unless other turns are given."""
    model = script(*(turns or [[(tool.__name__, {})]]), ["done"])
    return Agent(model, name="agent", tools=[tool], capabilities=[DaprDurability(retry=BOUNDS)], **options)


def told(run: DurableRun) -> Any:
    """What the tool has answered last."""
    _, messages = run.finish()
    return messages[-2].parts[0].content  # type: ignore[union-attr]


def timers(run: DurableRun) -> list[timedelta]:
    return [event.value for event in run.engine.history if event.kind == "timer"]


@dataclass
class Effects:
    """What a tool has done to the world, by the name of its step and the operation's key."""

    done: list[tuple[str, str]]

    async def apply(self, name: str) -> str:
        self.done.append((name, current_operation().key))
        return name


@pytest.fixture
def effects() -> Effects:
    return Effects([])


@pytest.fixture
def reminder(effects: Effects) -> Tool:
    async def remind() -> list[str]:
        opened = await durable_step("open", lambda: effects.apply("open"))
        await durable_sleep(DAYS)
        asked = await durable_step("ask", lambda: effects.apply("ask"))
        await durable_sleep(DAYS)
        return [opened, asked, await durable_step("close", lambda: effects.apply("close"))]

    return remind


def test_outside_a_durable_run_a_tool_really_sleeps_and_its_steps_are_calls() -> None:
    seen: list[str] = []

    async def nap() -> str:
        async def note() -> str:
            seen.append("noted")
            return "noted"

        await durable_step("note", note)
        await durable_sleep(timedelta(seconds=0.02))
        return await durable_step("note", note)

    began = time.monotonic()
    result = sleeper(nap).run_sync("go")
    assert time.monotonic() - began >= 0.02
    assert result.all_messages()[-2].parts[0].content == "noted"  # type: ignore[union-attr]
    assert seen == ["noted", "noted"]


def test_the_workflow_keeps_the_timer_and_nothing_waits_in_a_worker(reminder: Tool, effects: Effects) -> None:
    run = DurableRun(sleeper(reminder))
    run.engine.turn()
    for _ in range(2):  # the model's request, the tool's first attempt
        (number,) = run.engine.wakeups
        run.engine.serve(number, run.serve)
        run.engine.turn()
    assert run.worker is not None
    assert run.worker.operations.instances(older_than=0) == set()
    assert [(event.kind, event.value) for event in run.engine.wakeups.values()] == [("timer", DAYS)]
    run.replace_worker()
    assert told(run) == ["open", "ask", "close"]
    assert timers(run) == [DAYS, DAYS]
    assert effects.done == [(name, "run-1:2") for name in ("open", "ask", "close")]
    assert [(one.attempt, one.outcome) for one in run.attempts if one.kind == "tool" and one.phase == "ended"] == [
        (1, "asleep"),
        (2, "asleep"),
        (3, "ok"),
    ]


@pytest.mark.parametrize("point", Point, ids=lambda point: point.name.lower())
def test_what_is_done_before_a_sleep_is_done_once_wherever_a_process_dies(
    reminder: Tool, effects: Effects, point: Point
) -> None:
    run = CrashingRun(Scenario(lambda: sleeper(reminder)), point)
    assert told(run) == ["open", "ask", "close"]
    assert run.repeated == []
    assert run.passed or point in CUTS
    counts = Counter(effects.done)
    assert set(counts) == {(name, "run-1:2") for name in ("open", "ask", "close")}
    in_flight = point in (Point.EXECUTED, Point.REMEMBERED, Point.CONFIRMED, Point.LOST)
    assert max(counts.values()) == (2 if in_flight else 1)


def test_a_history_says_who_slept_and_how_long(reminder: Tool) -> None:
    run = DurableRun(sleeper(reminder))
    engine = recorded(run)
    engine.run(run.serve)
    run.stop()
    events = engine.export().events
    of_tool = [one for one in steps(events) if one.kind == "tool"]
    assert [(one.attempt, one.asleep) for one in of_tool] == [
        (1, DAYS.total_seconds()),
        (2, DAYS.total_seconds()),
        (3, None),
    ]
    assert [one.type for one in operations_of(events) if one.kind == "tool"] == [
        *("operation_started", "operation_asleep") * 2,
        *("operation_started", "operation_completed"),
    ]


def test_an_attempt_after_an_error_neither_repeats_steps_nor_sleeps_again(effects: Effects) -> None:
    tries: list[int] = []

    async def shaky() -> str:
        await durable_step("open", lambda: effects.apply("open"))
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("before the sleep")
        await durable_sleep(DAYS)
        tries.append(2)
        if tries.count(2) == 1:
            raise ConnectionError("after the sleep")
        return await durable_step("close", lambda: effects.apply("close"))

    run = DurableRun(sleeper(shaky))
    assert told(run) == "close"
    assert effects.done == [("open", "run-1:2"), ("close", "run-1:2")]
    # Two attempts at most: a sleep that is over begins a new count.
    assert timers(run) == [timedelta(seconds=1), DAYS, timedelta(seconds=1)]


def test_a_timeout_of_the_tool_leaves_out_the_time_asleep() -> None:
    agent = sleeper(_nap(), tool_timeout=5)
    assert told(DurableRun(agent)) == "awake"


def test_a_run_that_ends_in_time_does_not_wait_for_a_sleep() -> None:
    run = DurableRun(sleeper(_nap()), arguments={"timeout": 60.0})
    with pytest.raises(RunTimedOut):
        _to_its_end_by(run, timedelta(hours=1))


def test_a_polling_tool_sleeps_as_often_as_it_must() -> None:
    answers = iter([False, False, True])

    async def poll() -> int:
        async def ready() -> bool:
            return next(answers)

        rounds = 1
        while not await durable_step("look", ready):
            rounds += 1
            await durable_sleep(DAYS)
        return rounds

    run = DurableRun(sleeper(poll))
    assert told(run) == 3
    assert timers(run) == [DAYS, DAYS]


def test_what_steps_gave_is_kept_beside_the_history_where_it_is_large() -> None:
    async def fetch() -> int:
        async def page() -> str:
            return "x" * 500_000

        text = await durable_step("page", page)
        await durable_sleep(DAYS)
        return len(text)

    run = DurableRun(sleeper(fetch))
    assert told(run) == 500_000
    assert len(str(run.engine.history)) < 50_000


def test_usage_of_a_step_is_counted_once() -> None:
    async def spend(ctx: RunContext[Any]) -> str:
        async def ask() -> None:
            ctx.usage.incr(RunUsage(requests=1, input_tokens=10))

        await durable_step("ask", ask)
        if current_operation().attempt == 1:
            raise ConnectionError("try again")
        await durable_sleep(DAYS)
        await durable_step("ask", ask)
        return "spent"

    run = DurableRun(sleeper(spend))
    assert told(run) == "spent"
    assert run.engine.result["usage"]["requests"] == 4  # two of the model, one of each step


def test_a_block_around_a_sleep_is_left_and_entered_again() -> None:
    entered: list[str] = []

    async def grouped() -> str:
        async with asyncio.TaskGroup():
            entered.append("in")
            try:
                await durable_sleep(DAYS)
            finally:
                entered.append("out")
        return "awake"

    assert told(DurableRun(sleeper(grouped))) == "awake"
    assert entered == ["in", "out"] * 2


def test_what_runs_inside_the_workflow_sleeps_there_and_has_no_steps() -> None:
    agent: Agent[Any, Any] = Agent(script(["done"]), name="agent", capabilities=[DaprDurability()])

    @agent.output_validator
    async def check(output: str) -> str:
        await durable_sleep(DAYS)
        return await durable_step("check", _nap())

    run = DurableRun(agent)
    with pytest.raises(
        RuntimeError, match="the step 'check' is inside the workflow, which is replayed; do it in a tool"
    ):
        run.finish()
    assert timers(run) == [DAYS]


async def _sleeps_beside_itself() -> None:
    await asyncio.gather(durable_sleep(DAYS), durable_sleep(DAYS))


async def _sleeps_in_a_step() -> None:
    await durable_step("nap", lambda: durable_sleep(DAYS))


async def _asks_an_agent_that_sleeps() -> str:
    return (await sleeper(_nap()).run("go")).output


async def _stops_what_unwinds_it() -> str:
    try:
        await durable_sleep(DAYS)
    except BaseException:
        await asyncio.sleep(0)
    return "not asleep"


async def _gives_what_json_changes() -> Any:
    async def pair() -> tuple[int, int]:
        return 1, 2

    return await durable_step("pair", pair)


async def _gives_what_json_lacks() -> Any:
    async def thing() -> object:
        return object()

    return await durable_step("thing", thing)


@pytest.mark.parametrize(
    ("tool", "error", "says"),
    [
        (_sleeps_beside_itself, RuntimeError, r"called durable_sleep in another task than its body"),
        (_sleeps_in_a_step, RuntimeError, r"called durable_sleep in the step 'nap': .* must follow one another"),
        (_asks_an_agent_that_sleeps, RuntimeError, r"in another task than its body: .* a ChildAgent"),
        (_stops_what_unwinds_it, RuntimeError, r"_stops_what_unwinds_it went on instead of sleeping"),
        (_gives_what_json_changes, TypeError, r"the step 'pair' gave a tuple that JSON can't carry"),
        (_gives_what_json_lacks, TypeError, r"the step 'thing' gave a object that JSON can't carry"),
    ],
)
def test_what_could_be_done_twice_is_refused(tool: Tool, error: type[Exception], says: str) -> None:
    run = DurableRun(sleeper(tool))
    with pytest.raises(error, match=says):
        run.finish()
    assert timers(run) == []


def test_what_unwinds_a_body_unwinds_all_of_it(effects: Effects) -> None:
    async def tidy() -> str:
        try:
            await durable_sleep(DAYS)
        finally:
            await durable_step("tidy", lambda: effects.apply("tidy"))
        return "awake"

    assert told(DurableRun(sleeper(tidy))) == "awake"
    assert [name for name, _ in effects.done] == ["tidy"]


def test_an_error_while_a_body_is_unwound_is_its_end() -> None:
    async def breaks() -> str:
        try:
            await durable_sleep(DAYS)
        finally:
            raise PermissionError("not yours")

    run = DurableRun(sleeper(breaks))
    with pytest.raises(PermissionError, match="not yours"):
        run.finish()
    assert timers(run) == []


def test_other_operations_than_tools_do_not_sleep() -> None:
    operations = OperationHost()
    operation = Operation("run-1", "run-1", 1, "model", "gpt", 1)
    try:
        with operation_scope(operation):
            answer = operations.execute(operation, lambda: durable_sleep(DAYS))
    finally:
        operations.stop()
    assert answer["err"]["message"] == "durable_sleep is for tools; gpt is a model operation"


def test_a_tool_in_another_app_sleeps_too(effects: Effects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_tools, "PAUSE_SECONDS", 0.0)
    toolset: FunctionToolset[Any] = FunctionToolset(id="desk")
    failures = iter([ConnectionError("away")])

    @toolset.tool
    async def remind(ctx: RunContext[Any]) -> list[str]:
        async def opens() -> str:
            ctx.usage.incr(RunUsage(requests=1))
            return await effects.apply("open")

        opened = await durable_step("open", opens)
        await durable_sleep(DAYS)
        closed = await durable_step("close", lambda: effects.apply("close"))
        for error in failures:
            raise error
        return [opened, closed]

    neighbour = Neighbour(ToolHost(toolset, port=1))
    agent = Agent(
        script([("remind", {})], ["done"]),
        name="agent",
        toolsets=[RemoteToolset(toolset, app_id="tools")],
        capabilities=[DaprDurability(retry=BOUNDS)],
    )
    run = DurableRun(agent)
    for tools in run.backend.remote_tools:
        tools.connect(neighbour)  # type: ignore[arg-type]
    assert told(run) == ["open", "close"]
    assert timers(run) == [DAYS, timedelta(seconds=1)]
    assert effects.done == [("open", "run-1:2"), ("close", "run-1:2")]
    assert neighbour.started == [f"run-1.2.{attempt}.remote" for attempt in (1, 2, 3)]
    assert run.engine.result["usage"]["requests"] == 3  # two of the model, one of the step


def _nap() -> Tool:
    async def nap() -> str:
        await durable_sleep(timedelta(hours=1))
        return "awake"

    return nap


def _to_its_end_by(run: DurableRun, unserved: timedelta) -> None:
    """Brings a run to its end without its timers of that length."""
    run.engine.turn()
    while not run.engine.ended:
        waiting = {number: event for number, event in run.engine.wakeups.items() if event.value != unserved}
        activities = [number for number, event in waiting.items() if event.kind != "timer"]
        for number in activities or list(waiting):
            run.engine.serve(number, run.serve)
        assert run.engine.inbox, "the run waits for its sleep"
        run.engine.turn()
