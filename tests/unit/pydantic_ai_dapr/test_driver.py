"""A coroutine comes to the same end whatever happens to its workers, and nothing that completed is done again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai_dapr.driver import KeptRuns, drive
from pydantic_ai_dapr.run import LiveRun, current_run

from tests.support.workflow_engine import Engine, Event, NonDeterminismError

pytestmark = pytest.mark.unit

Program = tuple[Any, ...]
"""`("op", n)`, `("sleep", seconds)`, `("seq", …)`, `("par", …)`, `("first", …)`."""


def leaves() -> st.SearchStrategy[Program]:
    return st.one_of(
        st.tuples(st.just("op"), st.integers(0, 99)),
        st.tuples(st.just("sleep"), st.floats(0.1, 50)),
    )


def groups(inner: st.SearchStrategy[Program]) -> st.SearchStrategy[Program]:
    return st.tuples(st.sampled_from(["seq", "par"]), st.lists(inner, min_size=1, max_size=4).map(tuple))


PROGRAMS = st.recursive(leaves(), groups, max_leaves=12)


async def interpret(program: Program, operate: Callable[[int], Coroutine[Any, Any, int]]) -> Any:
    kind, body = program
    if kind == "op":
        return await operate(body)
    if kind == "sleep":
        return await asyncio.sleep(body if current() else 0)
    if kind == "par":
        return await asyncio.gather(*(interpret(part, operate) for part in body))
    return [await interpret(part, operate) for part in body]


def current() -> LiveRun | None:
    return current_run.get()


async def durable_operation(number: int) -> int:
    run = current()
    assert run is not None
    ordinal = run.next_ordinal()
    return await run.call("operate", lambda: {"ordinal": ordinal, "number": number})


async def plain_operation(number: int) -> int:
    return number * 2


@dataclass
class Worker:
    """Executes operations, and refuses to execute one whose result is in the history."""

    kept: KeptRuns
    completed: dict[int, int] = field(default_factory=dict)
    executions: list[int] = field(default_factory=list)

    def workflow(self, program: Program) -> Callable[[Any], Any]:
        return lambda ctx: drive(ctx, lambda: interpret(program, durable_operation), self.kept)

    def __call__(self, name: str, value: dict[str, int]) -> int:
        self.executions.append(value["ordinal"])
        assert value["ordinal"] not in self.completed, f"operation {value['ordinal']} was completed before"
        return value["number"] * 2

    def note(self, engine: Engine) -> None:
        inputs = {event.id: event.value for event in engine.history if event.kind == "scheduled"}
        for event in [*engine.history, *engine.inbox]:
            if event.kind == "completed":
                self.completed[inputs[event.id]["ordinal"]] = event.value


@settings(max_examples=300, deadline=None)
@given(program=PROGRAMS, seed=st.integers(0, 2**32), kept=st.sampled_from([0, 1, 8]))
def test_a_run_ends_as_without_faults_and_repeats_nothing_that_completed(
    program: Program, seed: int, kept: int
) -> None:
    chance = random.Random(seed)
    worker = Worker(KeptRuns(kept))
    engine = Engine(worker.workflow(program))
    engine.turn()
    epoch = 0
    for _ in range(500):
        if engine.ended:
            break
        fault = chance.random()
        if fault < 0.1:
            worker.kept.clear()
        elif fault < 0.2:
            epoch += 1
            engine.fail_over(f"epoch {epoch}")
        elif fault < 0.3 and epoch:
            engine.signal(f"epoch {epoch}")  # the sweep repeats itself where a run seems not to move
        for number in chance.sample(sorted(engine.wakeups), chance.randint(0, len(engine.wakeups))):
            event = engine.wakeups[number]
            if event.kind == "scheduled" and chance.random() < 0.15:
                worker(event.name, event.value)  # its answer is lost with its worker, and it is delivered again
                continue
            engine.serve(number, worker)
            worker.note(engine)
        if engine.inbox:
            engine.turn()
    assert engine.ended
    assert engine.result == asyncio.run(interpret(program, plain_operation))


def test_without_a_fault_every_operation_is_executed_once() -> None:
    worker = Worker(KeptRuns(1))
    program: Program = ("seq", (("op", 1), ("par", (("op", 2), ("op", 3))), ("op", 4)))
    assert Engine(worker.workflow(program)).run(worker) == [2, [4, 6], 8]
    assert sorted(worker.executions) == [1, 2, 3, 4]


def test_recover_issues_open_operations_and_timers_again() -> None:
    worker = Worker(KeptRuns(1))
    engine = Engine(worker.workflow(("par", (("op", 1), ("sleep", 5.0)))))
    engine.turn()
    assert len(engine.wakeups) == 2
    engine.fail_over()
    engine.turn()
    assert sorted(event.kind for event in engine.wakeups.values()) == ["scheduled", "timer"]
    assert engine.run_on(worker) == [2, None]
    assert worker.executions == [1]


def test_recover_does_not_issue_what_this_work_item_has_issued() -> None:
    worker = Worker(KeptRuns(1))
    engine = Engine(worker.workflow(("op", 1)))
    engine.inbox.append(Event("raised", name="recover"))
    engine.turn()
    assert len(engine.wakeups) == 1


@pytest.mark.parametrize(("first", "second", "issued"), [("1", "1", 1), ("1", "2", 2), (None, None, 2)])
def test_a_signal_that_is_repeated_issues_nothing_twice(first: str | None, second: str | None, issued: int) -> None:
    worker = Worker(KeptRuns(1))
    engine = Engine(worker.workflow(("op", 1)))
    engine.turn()
    engine.fail_over(first)
    engine.turn()
    engine.signal(second)
    engine.turn()
    assert len(engine.wakeups) == issued


def test_the_first_answer_wins_where_an_operation_was_issued_again() -> None:
    answers = iter([10, 20])
    kept = KeptRuns(1)
    engine = Engine(lambda ctx: drive(ctx, lambda: interpret(("op", 1), durable_operation), kept))
    engine.turn()
    first = dict(engine.wakeups)
    engine.fail_over()
    engine.turn()
    engine.wakeups |= first
    for number in sorted(engine.wakeups, reverse=True):
        engine.serve(number, lambda name, value: next(answers))
    engine.turn()
    assert engine.result == 10


@pytest.mark.parametrize("kept", [0, 1])
def test_an_error_of_an_activity_reaches_the_coroutine(kept: int) -> None:
    async def survives() -> str:
        try:
            await durable_operation(1)
        except Exception as error:
            return f"survived {type(error).__name__}"
        return "no error"

    def fails(name: str, value: object) -> object:
        raise ValueError("no")

    table = KeptRuns(kept)
    engine = Engine(lambda ctx: drive(ctx, survives, table))
    assert engine.run(fails) == "survived TaskFailedError"


def test_where_memory_and_history_disagree_history_wins() -> None:
    worker = Worker(KeptRuns(1))
    engine = Engine(worker.workflow(("seq", (("op", 1), ("op", 2)))))
    engine.turn()
    before = list(engine.history)
    wakeups = dict(engine.wakeups)
    engine.serve(1, lambda name, value: 111)  # another worker saw this, and its turn was never saved
    engine.turn()
    engine.history, engine.wakeups, engine.inbox = before, wakeups, []
    engine.serve(1, worker)
    engine.turn()
    assert engine.run_on(worker) == [2, 4]


@pytest.mark.parametrize("kept", [0, 1])
def test_a_run_that_is_rebuilt_sees_the_times_that_it_saw_first(kept: int) -> None:
    times: list[list[float]] = []

    async def looks() -> list[float]:
        mine: list[float] = []
        times.append(mine)
        for number in range(3):
            mine.append(asyncio.get_running_loop().time())
            await durable_operation(number)
        return mine

    table = KeptRuns(kept)
    result = Engine(lambda ctx: drive(ctx, looks, table)).run(lambda name, value: 1)
    assert len(set(result)) == 3
    assert all(seen == result[: len(seen)] for seen in times)


def test_a_coroutine_that_waits_for_something_that_is_not_durable_is_refused() -> None:
    async def waits() -> None:
        await asyncio.get_running_loop().create_future()

    kept = KeptRuns(1)
    with pytest.raises(RuntimeError, match="do I/O and waiting in tools"):
        Engine(lambda ctx: drive(ctx, waits, kept)).turn()
    assert len(kept) == 0


def test_a_failure_of_the_coroutine_is_the_workflows_failure() -> None:
    async def fails() -> None:
        await durable_operation(1)
        raise LookupError("nothing there")

    kept = KeptRuns(1)
    engine = Engine(lambda ctx: drive(ctx, fails, kept))
    with pytest.raises(LookupError, match="nothing there"):
        engine.run(lambda name, value: 1)
    assert len(kept) == 0


def test_other_code_than_the_historys_is_detected() -> None:
    kept = KeptRuns(0)
    engine = Engine(lambda ctx: drive(ctx, lambda: interpret(("op", 1), durable_operation), kept))
    engine.turn()
    engine.workflow = lambda ctx: drive(ctx, lambda: interpret(("sleep", 1.0), durable_operation), kept)
    engine.serve(1, lambda name, value: 1)
    with pytest.raises(NonDeterminismError):
        engine.turn()


def test_the_least_recently_used_run_is_unwound() -> None:
    unwound: list[str] = []

    def waits(name: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def body() -> None:
            try:
                await durable_operation(1)
            finally:
                unwound.append(name)

        return body

    kept = KeptRuns(2)
    for name in "abc":
        Engine(lambda ctx, name=name: drive(ctx, waits(name), kept), name).turn()
    assert unwound == ["a"]
    assert len(kept) == 2
    kept.clear()
    assert unwound == ["a", "b", "c"]
