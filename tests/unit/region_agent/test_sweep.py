"""After an activation every open run is woken, and watched until it has moved or ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic_ai_dapr import RunError, RunInput, RunStatus, WorkflowUnavailableError
from region_agent import sweep
from region_agent.events import EventLog
from region_agent.sweep import SIGNAL_AGAIN_SECONDS, Sweeper
from run_index import IndexedRun, IndexUnavailableError

pytestmark = pytest.mark.unit

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
NEVER = datetime(1, 1, 1, tzinfo=UTC)
Told = Callable[[], list[dict[str, Any]]]


@dataclass
class Clock:
    """Seconds since BEGAN."""

    seconds: float = 0.0

    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class Index:
    """The run index: what is open, and what was closed how."""

    open: dict[str, IndexedRun] = field(default_factory=dict)
    closed: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    scheduled: list[str] = field(default_factory=list)
    broken: bool = False

    def accept(self, run_id: str, value: dict[str, Any] | None = None, **more: Any) -> None:
        given = RunInput(run_id=run_id).model_dump(mode="json") if value is None else value
        self.open[run_id] = IndexedRun(run_id, given, BEGAN, None, None, "accepted", None, **more)

    def open_runs(self) -> list[IndexedRun]:
        if self.broken:
            raise IndexUnavailableError("no answer")
        return list(self.open.values())

    def mark_scheduled(self, run_id: str) -> None:
        self.scheduled.append(run_id)

    def close_run(self, run_id: str, status: str, error: str | None = None) -> bool:
        self.closed[run_id] = (status, error)
        return self.open.pop(run_id, None) is not None


@dataclass
class Sidecar:
    """Workflows by run id; counts what it is asked."""

    states: dict[str, RunStatus] = field(default_factory=dict)
    recovered: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    reruns: dict[str, tuple[str, int]] = field(default_factory=dict)
    asked: int = 0
    broken: bool = False

    def put(self, run_id: str, status: Any = "running", at: datetime = BEGAN, error: RunError | None = None) -> None:
        self.states[run_id] = RunStatus(run_id=run_id, status=status, created_at=BEGAN, updated_at=at, error=error)

    def _answer(self) -> None:
        self.asked += 1
        if self.broken:
            raise WorkflowUnavailableError("no answer")

    def start(self, run_id: str, run_input: RunInput, *, timeout: float | None = None) -> None:
        self._answer()
        self.started.append(run_id)

    def rerun_from(self, run_id: str, step: int, new_id: str) -> None:
        self._answer()
        if run_id not in self.states:
            raise ValueError(f"run {run_id} is unknown; only a run that has ended can be run again")
        self.reruns[new_id] = (run_id, step)

    def status(self, run_id: str, *, payloads: bool = True) -> RunStatus | None:
        self._answer()
        assert not payloads
        return self.states.get(run_id)

    def recover(self, run_id: str, token: str | None = None) -> None:
        self._answer()
        self.recovered.append(run_id)


@dataclass
class Region:
    """A sweeper over fakes."""

    index: Index
    sidecars: list[Sidecar]
    clock: Clock
    sweeper: Sweeper

    def sweep(self) -> None:
        asyncio.run(self.sweeper.sweep(2, "epoch 2"))

    def look(self, seconds: float = 0.0) -> None:
        self.clock.seconds += seconds
        asyncio.run(self.sweeper.look())

    @property
    def signals(self) -> list[str]:
        return sorted(run for sidecar in self.sidecars for run in sidecar.recovered)


@pytest.fixture
def region(events: EventLog) -> Iterator[Region]:
    index, clock, sidecars = Index(), Clock(), [Sidecar(), Sidecar()]
    sidecars[1].states = sidecars[0].states
    sweeper = Sweeper(index, list(sidecars), events, 60.0, clock.now, clock.monotonic)
    yield Region(index, sidecars, clock, sweeper)
    sweeper.close()


def with_run(region: Region, run_id: str = "run-1", **state: Any) -> None:
    region.index.accept(run_id)
    region.sidecars[0].put(run_id, **state)


def test_every_open_run_is_signalled_once(region: Region, told: Told) -> None:
    for number in range(100):
        with_run(region, f"run-{number:02}")
    region.sweep()
    assert region.signals == [f"run-{number:02}" for number in range(100)]
    assert region.sweeper.swept_total == 100
    assert [one["runs"] for one in told() if one["event"] == "sweep-finished"] == [100]


def test_its_cost_follows_the_open_runs_alone(region: Region) -> None:
    for number in range(10_000):
        region.sidecars[0].put(f"ended-{number}", status="completed")
    for number in range(5):
        with_run(region, f"run-{number}")
    region.sweep()
    assert sum(sidecar.asked for sidecar in region.sidecars) == 5


def test_a_run_that_moved_is_not_signalled_again(region: Region) -> None:
    with_run(region)
    region.sweep()
    region.sidecars[0].put("run-1", at=BEGAN + timedelta(seconds=1))
    region.look(SIGNAL_AGAIN_SECONDS + 1)
    region.look(SIGNAL_AGAIN_SECONDS * 4)
    assert region.signals == ["run-1"]


def test_a_run_that_did_not_move_is_signalled_again_after_growing_pauses(region: Region) -> None:
    with_run(region)
    region.sweep()
    region.look(SIGNAL_AGAIN_SECONDS - 0.1)
    assert len(region.signals) == 1
    region.look(0.2)
    assert len(region.signals) == 2
    region.look(SIGNAL_AGAIN_SECONDS)
    assert len(region.signals) == 2
    region.look(SIGNAL_AGAIN_SECONDS)
    assert len(region.signals) == 3


def test_another_sidecar_is_asked_where_one_does_not_answer(region: Region) -> None:
    region.sidecars[0].broken = True
    for number in range(4):
        with_run(region, f"run-{number}")
    region.sweep()
    assert region.signals == [f"run-{number}" for number in range(4)]


def test_a_signal_that_nobody_took_is_told_and_repeated(region: Region, told: Told) -> None:
    with_run(region)
    for sidecar in region.sidecars:
        sidecar.broken = True
    region.sweep()
    region.look()
    assert [one["event"] for one in told() if one["event"] == "signal-failed"] == ["signal-failed"]
    for sidecar in region.sidecars:
        sidecar.broken = False
    region.look(SIGNAL_AGAIN_SECONDS + 0.1)
    assert region.signals == ["run-1"]


@pytest.mark.parametrize("status", ["completed", "failed", "terminated"])
def test_a_run_that_has_ended_is_closed_with_its_reason(region: Region, told: Told, status: str) -> None:
    error = RunError(type="ValueError", message="wrong") if status == "failed" else None
    with_run(region, status=status, error=error)
    region.sweep()
    region.look()
    assert region.index.closed == {"run-1": (status, "ValueError: wrong" if error else None)}
    assert region.sweeper.signals == {}
    (closed,) = [one for one in told() if one["event"] == "run-closed"]
    assert (closed["status"], closed["seconds"] >= 0, closed["behind"] >= 0) == (status, True, True)


def test_an_accepted_run_without_a_workflow_is_scheduled_after_a_while(region: Region) -> None:
    region.index.accept("run-1")
    region.look(1)
    assert not region.index.scheduled
    region.look(2)
    assert region.index.scheduled == ["run-1"]
    assert [run for sidecar in region.sidecars for run in sidecar.started] == ["run-1"]


def test_a_run_whose_input_cannot_be_read_is_failed(region: Region) -> None:
    region.index.accept("run-1", {"nonsense": 1})
    region.look(5)
    status, error = region.index.closed["run-1"]
    assert status == "failed"
    assert error
    assert "can't be read" in error


def test_a_rerun_without_a_workflow_gets_the_one_that_was_asked_for(region: Region) -> None:
    with_run(region, "run-1", status="completed")
    region.index.accept("run-1~2", RunInput(run_id="run-1").model_dump(mode="json"), rerun_of="run-1", rerun_step=3)
    region.index.accept("run-1~3", RunInput(run_id="run-1").model_dump(mode="json"), rerun_of="run-1")
    region.look(3)
    assert [one for sidecar in region.sidecars for one in sidecar.reruns.items()] == [("run-1~2", ("run-1", 3))]
    assert [run for sidecar in region.sidecars for run in sidecar.started] == ["run-1~3"]
    assert sorted(region.index.scheduled) == ["run-1~2", "run-1~3"]


def test_a_rerun_of_a_run_that_is_gone_is_failed(region: Region) -> None:
    region.index.accept("run-1~2", RunInput(run_id="run-1").model_dump(mode="json"), rerun_of="run-1", rerun_step=3)
    region.look(3)
    status, error = region.index.closed["run-1~2"]
    assert (status, "run run-1 is unknown" in str(error)) == ("failed", True)
    assert region.index.scheduled == []


def test_a_run_without_progress_is_reported_once_and_left_alone(region: Region, told: Told) -> None:
    with_run(region)
    region.look(61)
    region.look(10)
    assert list(region.sweeper.stuck) == ["run-1"]
    assert [one["run_id"] for one in told() if one["event"] == "run-stuck"] == ["run-1"]
    assert region.signals == []
    region.sidecars[0].put("run-1", at=region.clock.now())
    region.look(1)
    assert region.sweeper.stuck == {}


def test_a_workflow_that_has_not_begun_is_not_stuck(region: Region) -> None:
    with_run(region, status="pending", at=NEVER)
    region.look(30)
    assert region.sweeper.stuck == {}


def test_what_is_gone_is_forgotten(region: Region) -> None:
    with_run(region)
    region.sweep()
    region.look(61)
    assert region.sweeper.signals
    assert region.sweeper.stuck
    region.index.open.clear()
    region.look()
    assert not region.sweeper.signals
    assert not region.sweeper.stuck
    assert region.sweeper.open_count == 0


def test_it_goes_on_looking_when_the_index_does_not_answer(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "LOOK_SECONDS", 0.001)
    region.index.broken = True
    with_run(region, status="completed")

    async def run() -> None:
        watching = asyncio.create_task(region.sweeper.watch())
        await asyncio.sleep(0.02)
        region.index.broken = False
        while region.index.open:  # noqa: ASYNC110  # there is nothing to wait on
            await asyncio.sleep(0.001)
        watching.cancel()

    asyncio.run(asyncio.wait_for(run(), 5))
    assert "run-1" in region.index.closed


def test_a_region_without_a_sidecar_says_so(region: Region, events: EventLog, told: Told) -> None:
    with_run(region)
    lonely = Sweeper(region.index, [], events, 60.0)
    asyncio.run(lonely.sweep(1, "epoch 1"))
    lonely.close()
    assert [one["error"] for one in told() if one["event"] == "signal-failed"] == ["the region has no sidecar"]
