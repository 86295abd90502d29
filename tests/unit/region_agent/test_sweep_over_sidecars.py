"""A sweep reaches every open run through whichever sidecar answers, however many it asks at once."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai_dapr import RunInput, RunStatus, WorkflowUnavailableError
from region_agent import sweep
from region_agent.events import EventLog
from region_agent.sweep import LOOK_SECONDS, SIGNAL_AGAIN_SECONDS, Sweeper, Workflows
from run_index import IndexedRun, IndexUnavailableError

from tests.unit.region_agent.stand_ins import Clock, OverError

pytestmark = pytest.mark.unit

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
STUCK_AFTER = 60.0
Told = Callable[[], list[dict[str, Any]]]


@dataclass
class Index:
    """The runs that are open; what was closed is gone."""

    open: list[str]
    marked: list[str] = field(default_factory=list)
    down: int = 0
    gone: bool = False

    def open_runs(self) -> list[IndexedRun]:
        if self.down:
            self.down -= 1
            raise IndexUnavailableError("no answer")
        return [
            IndexedRun(name, RunInput(run_id=name).model_dump(mode="json"), BEGAN, None, None, "accepted", None)
            for name in self.open
        ]

    def mark_scheduled(self, run_id: str) -> None:
        self.marked.append(run_id)

    def close_run(self, run_id: str, status: str, error: str | None = None) -> bool:
        if self.gone:
            raise IndexUnavailableError("no answer")
        self.open.remove(run_id)
        return True


@dataclass
class Sidecar:
    """Workflows that run, at work since `BEGAN`."""

    known: dict[str, RunStatus]
    asked: list[str] = field(default_factory=list)
    fail: Callable[[], object] = lambda: None

    def start(self, run_id: str, run_input: RunInput, *, timeout: float | None = None) -> None:
        self._answer(f"start {run_id}")

    def status(self, run_id: str, *, payloads: bool = True) -> RunStatus | None:
        self._answer(f"status {run_id}")
        return self.known.get(run_id)

    def recover(self, run_id: str, token: str | None = None) -> None:
        self._answer(f"recover {run_id}")

    def rerun_from(self, run_id: str, step: int, new_id: str) -> None:
        self._answer(f"rerun {run_id}")

    def _answer(self, question: str) -> None:
        self.asked.append(question)
        self.fail()


def running(run_id: str, at: datetime = BEGAN, status: Any = "running") -> RunStatus:
    return RunStatus(run_id=run_id, status=status, created_at=BEGAN, updated_at=at)


class Region:
    """Two sidecars with the same workflows, and a clock that a test advances."""

    def __init__(self, events: EventLog, runs: int) -> None:
        names = [f"run-{number}" for number in range(runs)]
        self.index = Index(list(names))
        self.known = {name: running(name) for name in names}
        self.sidecars = [Sidecar(self.known), Sidecar(self.known)]
        self.seconds = 0.0
        self.sweeper = self._sweeper(list(self.sidecars), events)

    def _sweeper(self, workflows: list[Workflows], events: EventLog) -> Sweeper:
        return Sweeper(self.index, workflows, events, STUCK_AFTER, self.now, lambda: self.seconds)

    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=self.seconds)

    def asked(self, what: str) -> list[str]:
        questions = [question.split() for sidecar in self.sidecars for question in sidecar.asked]
        return sorted(run for kind, run in questions if kind == what)

    def sweep(self) -> None:
        asyncio.run(self.sweeper.sweep(4, "epoch 4"))

    def look(self, at: float | None = None) -> None:
        self.seconds = self.seconds if at is None else at
        asyncio.run(self.sweeper.look())


@pytest.fixture
def make(events: EventLog) -> Iterator[Callable[[int], Region]]:
    made: list[Region] = []

    def region(runs: int) -> Region:
        made.append(Region(events, runs))
        return made[-1]

    yield region
    for one in made:
        one.sweeper.close()


def unavailable() -> None:
    raise WorkflowUnavailableError("the sidecar answered UNAVAILABLE")


def test_runs_that_are_signalled_at_once_all_reach_the_sidecar_that_answers(
    make: Callable[[int], Region], told: Told
) -> None:
    region = make(3)
    both_failed, failing = threading.Event(), list[int]()

    def fail_together() -> None:
        failing.append(1)
        if len(failing) == 2:
            both_failed.set()
        both_failed.wait(5)
        unavailable()

    region.sidecars[0].fail = fail_together
    region.sweep()
    assert [one for one in told() if one["event"] == "signal-failed"] == []
    assert sorted(region.sidecars[1].asked) == ["recover run-0", "recover run-1", "recover run-2"]


def test_the_sidecars_share_the_questions(make: Callable[[int], Region]) -> None:
    region = make(10)
    region.sweep()
    assert [len(sidecar.asked) for sidecar in region.sidecars] == [5, 5]


@given(st.integers(0, 40), st.integers(0, 3))
def test_what_is_asked_follows_the_number_of_open_runs(runs: int, looks: int) -> None:
    class Silent(EventLog):
        def __init__(self) -> None: ...

        def record(self, event: str, **members: Any) -> None: ...

    region = Region(Silent(), runs)
    region.sweep()
    for _ in range(looks):
        region.look()
    region.sweeper.close()
    assert len(region.asked("recover")) == runs
    assert len(region.asked("status")) == runs * looks
    assert region.sweeper.open_count == (runs if looks else 0)


def test_a_run_that_does_not_move_is_signalled_after_pauses_that_double_up_to_the_time_for_being_stuck(
    make: Callable[[int], Region],
) -> None:
    region = make(1)
    region.sweep()
    signalled = [0.0]
    for second in range(1, 300):
        region.look(at=float(second))
        if len(region.asked("recover")) > len(signalled):
            signalled.append(float(second))
    pauses = [after - before for before, after in itertools.pairwise(signalled)]
    assert pauses == [SIGNAL_AGAIN_SECONDS * factor for factor in (1, 2, 4, 8)] + [STUCK_AFTER] * 3


def test_a_signal_that_failed_grows_its_pause_as_any_other(make: Callable[[int], Region]) -> None:
    region = make(1)
    for sidecar in region.sidecars:
        sidecar.fail = unavailable
    region.sweep()
    waits = [region.sweeper.signals["run-0"].wait]
    for second in range(1, 20):
        region.look(at=float(second))
    assert region.sweeper.swept_total == 0
    region.sidecars[0].fail = lambda: None
    region.look(at=20.0)
    waits.append(region.sweeper.signals["run-0"].wait)
    assert waits == [SIGNAL_AGAIN_SECONDS, 2 * SIGNAL_AGAIN_SECONDS]
    assert region.sweeper.swept_total == 1


def test_a_run_that_moved_before_the_second_signal_is_never_signalled_again(make: Callable[[int], Region]) -> None:
    region = make(2)
    region.sweep()
    region.known["run-0"] = running("run-0", at=BEGAN + timedelta(seconds=0.1))
    for second in range(1, 50):
        region.look(at=float(second))
    assert region.asked("recover").count("run-0") == 1
    assert region.asked("recover").count("run-1") > 1


def test_a_run_that_moved_after_its_first_signal_has_moved_whenever_the_second_was(
    make: Callable[[int], Region],
) -> None:
    region = make(1)
    region.sweep()
    region.look(at=SIGNAL_AGAIN_SECONDS)
    region.known["run-0"] = running("run-0", at=BEGAN + timedelta(seconds=SIGNAL_AGAIN_SECONDS - 0.1))
    region.look(at=50)
    assert len(region.asked("recover")) == 2


def test_a_stuck_run_is_never_signalled_without_a_sweep(make: Callable[[int], Region], told: Told) -> None:
    region = make(2)
    for second in range(0, 1000, 10):
        region.look(at=float(second))
    assert sorted(region.sweeper.stuck) == ["run-0", "run-1"]
    assert [one["idle_seconds"] for one in told() if one["event"] == "run-stuck"] == [60.0, 60.0]
    assert region.asked("recover") == []


def test_a_run_that_is_stuck_for_a_second_time_is_reported_for_a_second_time(
    make: Callable[[int], Region], told: Told
) -> None:
    region = make(1)
    region.look(at=61)
    region.known["run-0"] = running("run-0", at=region.now())
    region.look(at=62)
    region.look(at=62 + STUCK_AFTER)
    assert [one["run_id"] for one in told() if one["event"] == "run-stuck"] == ["run-0", "run-0"]


def test_a_pending_workflow_without_a_time_of_change_is_as_old_as_its_row(make: Callable[[int], Region]) -> None:
    region = make(1)
    region.known["run-0"] = running("run-0", at=datetime(1970, 1, 1, tzinfo=UTC), status="pending")
    region.look(at=STUCK_AFTER - 1)
    assert region.sweeper.stuck == {}
    region.look(at=STUCK_AFTER)
    assert region.sweeper.stuck == {"run-0": STUCK_AFTER}


def test_a_run_that_could_not_be_scheduled_is_not_called_scheduled(make: Callable[[int], Region], told: Told) -> None:
    region = make(1)
    region.known.clear()

    def fail_to_start() -> None:
        if region.asked("start"):
            unavailable()

    for sidecar in region.sidecars:
        sidecar.fail = fail_to_start
    region.look(at=3)
    assert (region.index.marked, told()) == ([], [])
    for sidecar in region.sidecars:
        sidecar.fail = lambda: None
    region.look(at=4)
    assert region.index.marked == ["run-0"]
    assert [one["event"] for one in told()] == ["run-scheduled"]


def test_a_run_that_could_not_be_closed_is_closed_with_the_next_look(make: Callable[[int], Region], told: Told) -> None:
    region = make(1)
    region.known["run-0"] = running("run-0", status="completed")
    region.index.gone = True
    region.look()
    assert told() == []
    region.index.gone = False
    region.look()
    assert [(one["event"], one["status"]) for one in told()] == [("run-closed", "completed")]


def test_an_index_that_does_not_answer_is_asked_again_after_the_usual_pause(
    make: Callable[[int], Region], monkeypatch: pytest.MonkeyPatch
) -> None:
    region = make(1)
    region.index.down = 2
    clock = Clock(*[lambda: None] * 3)
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    with pytest.raises(OverError):
        asyncio.run(region.sweeper.watch())
    assert clock.slept == [LOOK_SECONDS] * 4
    assert region.asked("status") == ["run-0", "run-0"]


@pytest.mark.parametrize(("took", "pause"), [(0.5, 2.0), (20, 5.0)])
def test_looks_that_take_long_are_made_less_often_but_in_time(
    make: Callable[[int], Region], monkeypatch: pytest.MonkeyPatch, took: float, pause: float
) -> None:
    region = make(1)

    def take_long() -> None:
        region.seconds += took

    region.sidecars[0].fail = region.sidecars[1].fail = take_long
    clock = Clock()
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    with pytest.raises(OverError):
        asyncio.run(region.sweeper.watch())
    assert clock.slept == [pause]


def test_a_sweep_asks_as_many_questions_at_once_as_it_has_threads_and_no_more(make: Callable[[int], Region]) -> None:
    region = make(2 * sweep.PARALLEL)
    at_once, most, lock = [0], [0], threading.Lock()
    all_there = threading.Barrier(sweep.PARALLEL, timeout=5)

    def meet() -> None:
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        all_there.wait()
        with lock:
            at_once[0] -= 1

    region.sidecars[0].fail = region.sidecars[1].fail = meet
    region.sweep()
    assert most[0] <= sweep.PARALLEL


def test_events_of_many_threads_are_whole_lines(make: Callable[[int], Region], told: Told) -> None:
    region = make(300)
    region.sweep()
    signalled = [one["run_id"] for one in told() if one["event"] == "sweep-signalled"]
    assert sorted(signalled) == sorted(region.index.open)
