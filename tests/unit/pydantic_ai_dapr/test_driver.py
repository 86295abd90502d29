"""A coroutine comes to the same end whatever happens to its workers, and nothing that completed is done again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai_dapr.driver import KeptRuns, drive
from pydantic_ai_dapr.journal import Journal
from pydantic_ai_dapr.payloads import Payloads
from pydantic_ai_dapr.run import LiveRun, current_run

from tests.support.durable_agents import Values
from tests.support.workflow_engine import Engine, Event, NonDeterminismError

pytestmark = pytest.mark.unit

Program = tuple[Any, ...]
"""`("op", n)`, `("sleep", seconds)`, `("answer", n)`, `("seq", …)`, `("par", …)`."""


def leaves() -> st.SearchStrategy[Program]:
    return st.one_of(
        st.tuples(st.just("op"), st.integers(0, 99)),
        st.tuples(st.just("sleep"), st.floats(0.1, 50)),
        st.tuples(st.just("answer"), st.integers(0, 99)),
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
    if kind == "answer":
        return await external_answer(body)
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


async def external_answer(number: int) -> int:
    run = current()
    return number * 3 if run is None else await run.signal(f"answer {number} {run.uuid()}")


async def plain_operation(number: int) -> int:
    return number * 2


@dataclass
class Worker:
    """Executes operations, and refuses to execute one whose result is in the history."""

    kept: KeptRuns
    segment_answers: int = 100
    journal: Journal = field(default_factory=lambda: Journal(Payloads(Values()), lambda instance_id: []))
    completed: dict[int, int] = field(default_factory=dict)
    executions: list[int] = field(default_factory=list)

    def workflow(self, program: Program) -> Callable[[Any], Any]:
        return lambda ctx, start: drive(
            ctx,
            lambda: interpret(program, durable_operation),
            self.kept,
            start=start,
            journal=self.journal,
            segment_answers=self.segment_answers,
        )

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
@given(
    program=PROGRAMS,
    seed=st.integers(0, 2**32),
    kept=st.sampled_from([0, 1, 8]),
    segment_answers=st.sampled_from([1, 2, 5, 100]),
)
def test_a_run_ends_as_without_faults_and_repeats_nothing_that_completed(
    program: Program, seed: int, kept: int, segment_answers: int
) -> None:
    chance = random.Random(seed)
    worker = Worker(KeptRuns(kept), segment_answers)
    engine = Engine(worker.workflow(program), input={"program": "…"})
    engine.turn()
    answered: set[str] = set()
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
        for name in sorted(engine.awaited() - answered):
            if chance.random() < 0.3:
                answered.add(name)
                event = Event("raised", name=name, value=int(name.split()[1]) * 3)
                engine.inbox.insert(chance.randint(0, len(engine.inbox)), event)
        if engine.inbox:
            engine.turn()
    assert engine.ended
    assert engine.result == asyncio.run(interpret(program, plain_operation))


def test_without_a_fault_every_operation_is_executed_once() -> None:
    worker = Worker(KeptRuns(1))
    program: Program = ("seq", (("op", 1), ("par", (("op", 2), ("op", 3))), ("op", 4)))
    assert Engine(worker.workflow(program), input={"program": "…"}).run(worker) == [2, [4, 6], 8]
    assert sorted(worker.executions) == [1, 2, 3, 4]


def test_recover_issues_open_operations_and_timers_again() -> None:
    worker = Worker(KeptRuns(1))
    engine = Engine(worker.workflow(("par", (("op", 1), ("sleep", 5.0)))), input={"program": "…"})
    engine.turn()
    assert len(engine.wakeups) == 2
    engine.fail_over()
    engine.turn()
    assert sorted(event.kind for event in engine.wakeups.values()) == ["scheduled", "timer"]
    assert engine.run_on(worker) == [2, None]
    assert worker.executions == [1]


def test_recover_does_not_issue_what_this_work_item_has_issued() -> None:
    worker = Worker(KeptRuns(1))
    engine = Engine(worker.workflow(("op", 1)), input={"program": "…"})
    engine.inbox.append(Event("raised", name="recover"))
    engine.turn()
    assert len(engine.wakeups) == 1


@pytest.mark.parametrize(("first", "second", "issued"), [("1", "1", 1), ("1", "2", 2), (None, None, 2)])
def test_a_signal_that_is_repeated_issues_nothing_twice(first: str | None, second: str | None, issued: int) -> None:
    worker = Worker(KeptRuns(1))
    engine = Engine(worker.workflow(("op", 1)), input={"program": "…"})
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
    assert engine.run(fails) == "survived OperationFailedError"


def test_where_memory_and_history_disagree_history_wins() -> None:
    worker = Worker(KeptRuns(1))
    engine = Engine(worker.workflow(("seq", (("op", 1), ("op", 2)))), input={"program": "…"})
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


def test_a_timer_keeps_its_deadline_when_the_history_is_cut() -> None:
    worker = Worker(KeptRuns(1), segment_answers=1)
    engine = Engine(worker.workflow(("par", (("sleep", 50.0), ("op", 1)))), input={"program": "…"})
    engine.turn()
    began = engine.history[0].value
    engine.serve(next(number for number, event in engine.wakeups.items() if event.kind == "scheduled"), worker)
    engine.turn()
    assert engine.executions == 2
    (timer,) = engine.wakeups.values()
    assert engine.history[0].value + timer.value == began + timedelta(seconds=50)


def test_a_cut_history_waits_for_what_is_being_executed() -> None:
    worker = Worker(KeptRuns(1), segment_answers=1)
    engine = Engine(worker.workflow(("par", (("op", 1), ("op", 2)))), input={"program": "…"})
    engine.turn()
    engine.serve(next(iter(engine.wakeups)), worker)
    engine.turn()
    assert (engine.executions, engine.ended) == (1, False)


def test_an_answer_that_comes_while_the_history_is_cut_is_not_lost() -> None:
    worker = Worker(KeptRuns(1), segment_answers=1)
    engine = Engine(worker.workflow(("par", (("op", 1), ("answer", 2)))), input={"program": "…"})
    engine.turn()
    (name,) = engine.awaited()
    engine.serve(next(iter(engine.wakeups)), worker)
    engine.inbox.append(Event("raised", name=name, value=6))
    engine.turn()
    assert engine.executions == 2
    assert engine.result == [2, 6]


@pytest.mark.parametrize("kept", [0, 1])
def test_a_run_of_many_segments_keeps_its_history_short(kept: int) -> None:
    worker = Worker(KeptRuns(kept), segment_answers=10)
    program: Program = ("seq", tuple(("op", number) for number in range(200)))
    engine = Engine(worker.workflow(program), input={"program": "…"})
    assert engine.run(worker) == [number * 2 for number in range(200)]
    assert engine.executions == 20
    assert len(worker.executions) == 200
    assert len(engine.history) <= 40


def test_a_shorter_limit_cuts_no_history_that_is_longer_already() -> None:
    program: Program = ("seq", tuple(("op", number) for number in range(20)))
    worker = Worker(KeptRuns(1), segment_answers=100)
    engine = Engine(worker.workflow(program), input={"program": "…"})
    engine.turn()
    for _ in range(10):
        engine.serve(next(iter(engine.wakeups)), worker)
        worker.note(engine)
        engine.turn()
    deployed = Worker(KeptRuns(1), segment_answers=4, completed=worker.completed)
    engine.workflow = deployed.workflow(program)
    assert engine.run_on(deployed) == [number * 2 for number in range(20)]
    assert engine.executions > 1


def test_every_worker_sees_the_same_times() -> None:
    async def looks() -> list[float]:
        times: list[float] = []
        for number in range(9):
            await durable_operation(number)
            times.append(asyncio.get_running_loop().time())
            await asyncio.sleep(number)
        return times

    def seen(kept: int) -> list[float]:
        table, journal = KeptRuns(kept), Journal(Payloads(Values()), lambda instance_id: [])
        workflow = lambda ctx, start: drive(ctx, looks, table, start=start, journal=journal, segment_answers=4)  # noqa: E731
        engine = Engine(workflow, input={"program": "…"})
        result = engine.run(lambda name, value: 0)
        assert engine.executions == 5
        return result

    assert seen(0) == seen(1)
