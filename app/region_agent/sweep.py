"""Wakes every open run after an activation, and keeps watch over runs that don't move.

What it costs follows the number of runs that are open, not of those ever made.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Protocol, TypeVar

from pydantic import ValidationError
from pydantic_ai_dapr import RunInput, RunStatus, WorkflowUnavailableError
from run_index import IndexedRun, IndexUnavailableError

from region_agent.events import EventLog

PARALLEL = 16
LOOK_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 5.0
"""A look takes long where there are many runs, and where no sidecar answers: then runs wait for the next one."""
SCHEDULE_AFTER = timedelta(seconds=2)
SIGNAL_AGAIN_SECONDS = 5.0
"""A signal that is repeated while the first is still on its way would execute an operation on two workers at once."""
T = TypeVar("T")


class Runs(Protocol):
    """The index of accepted runs; `run_index.RunIndex` is one."""

    def open_runs(self) -> list[IndexedRun]: ...
    def mark_scheduled(self, run_id: str) -> None: ...
    def close_run(self, run_id: str, status: str, error: str | None = None) -> bool: ...


class Workflows(Protocol):
    """One sidecar's workflows; `pydantic_ai_dapr.AgentRunClient` is one."""

    def start(self, run_id: str, run_input: RunInput, *, timeout: float | None = None) -> None: ...
    def status(self, run_id: str, *, payloads: bool = True) -> RunStatus | None: ...
    def recover(self, run_id: str, token: str | None = None) -> None: ...
    def rerun_from(self, run_id: str, step: int, new_id: str) -> None: ...


@dataclass
class Signal:
    """A `recover` that was raised, at `at`; `again` is when to raise it again if the run has not moved."""

    at: datetime
    again: float
    wait: float


@dataclass(frozen=True)
class Swept:
    """What a sweep found open, and how long it took in seconds."""

    runs: int
    seconds: float


@dataclass
class Sweeper:
    """Signals runs until each has moved or ended, schedules accepted runs, closes ended ones, reports stuck ones."""

    runs: Runs
    workflows: list[Workflows]
    events: EventLog
    stuck_after: float
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = time.monotonic
    signals: dict[str, Signal] = field(default_factory=dict[str, Signal])
    stuck: dict[str, float] = field(default_factory=dict[str, float])
    life: str = ""
    open_count: int = 0
    swept_total: int = 0

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(PARALLEL, "sweep")
        self._turn = count()

    async def sweep(self, epoch: int, life: str) -> Swept:
        """Raise `recover` on every open run that has a workflow; `watch` goes on with those that don't move.

        The signal carries the life of the scheduler's store, so that a run heeds it once in each.
        """
        self.life, began = life, self.clock()
        open_runs = await self._open_runs()
        self.events.record("sweep-started", epoch=epoch, runs=len(open_runs))
        await self._each(open_runs, self._signal)
        seconds = round(self.clock() - began, 3)
        self.events.record("sweep-finished", epoch=epoch, runs=len(open_runs), seconds=seconds)
        return Swept(len(open_runs), seconds)

    async def watch(self) -> None:
        """Look after the open runs until cancelled."""
        while True:
            began = self.clock()
            with contextlib.suppress(IndexUnavailableError):
                await self.look()
            await asyncio.sleep(min(max(LOOK_SECONDS, 4 * (self.clock() - began)), LONGEST_PAUSE_SECONDS))

    async def look(self) -> None:
        """One look at each open run."""
        open_runs = await self._open_runs()
        await self._each(open_runs, self._look_at)
        known = {run.run_id for run in open_runs}
        self.open_count = len(open_runs)
        for gone in (self.signals.keys() | self.stuck.keys()) - known:
            self._forget(gone)

    def close(self) -> None:
        """Let no further call begin."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _signal(self, run: IndexedRun) -> None:
        before = self.signals.get(run.run_id)
        wait = min(before.wait * 2, self.stuck_after) if before else SIGNAL_AGAIN_SECONDS
        at = before.at if before else self.now()
        self.signals[run.run_id] = Signal(at, self.clock() + wait, wait)
        try:
            self._ask(lambda client: client.recover(run.run_id, self.life))
        except WorkflowUnavailableError as error:
            self.events.record("signal-failed", run_id=run.run_id, error=str(error)[:200])
            return
        self.swept_total += 1
        trace = run.input.get("trace")
        traceparent = trace.get("traceparent") if isinstance(trace, dict) else None
        known = {"traceparent": traceparent} if traceparent else {}
        self.events.record("sweep-signalled", run_id=run.run_id, **known)

    def _look_at(self, run: IndexedRun) -> None:
        try:
            status = self._ask(lambda client: client.status(run.run_id, payloads=False))
            if status is None:
                self._schedule(run)
            elif status.is_terminal:
                error = f"{status.error.type}: {status.error.message}" if status.error else None
                if self.runs.close_run(run.run_id, status.status, error):
                    self.events.record(
                        "run-closed",
                        run_id=run.run_id,
                        status=status.status,
                        seconds=round((status.updated_at - run.accepted_at).total_seconds(), 3),
                        behind=round((self.now() - status.updated_at).total_seconds(), 3),
                    )
                self._forget(run.run_id)
            else:
                self._judge(run, status)
        except (WorkflowUnavailableError, IndexUnavailableError):
            return

    def _schedule(self, run: IndexedRun) -> None:
        if self.now() - run.accepted_at < SCHEDULE_AFTER:
            return
        try:
            self._begin(run)
        except ValidationError as error:
            self.runs.close_run(run.run_id, "failed", f"its input can't be read: {error.error_count()} errors")
            return
        except ValueError as error:
            self.runs.close_run(run.run_id, "failed", str(error))
            return
        self.runs.mark_scheduled(run.run_id)
        self.events.record("run-scheduled", run_id=run.run_id)

    def _begin(self, run: IndexedRun) -> None:
        source, step = run.rerun_of, run.rerun_step
        if source is not None and step is not None:
            self._ask(lambda client: client.rerun_from(source, step, run.run_id))
        else:
            run_input = RunInput.model_validate(run.input)
            self._ask(lambda client: client.start(run.run_id, run_input, timeout=5.0))

    def _judge(self, run: IndexedRun, status: RunStatus) -> None:
        signal = self.signals.get(run.run_id)
        if signal is not None:
            if status.updated_at > signal.at:
                self.signals.pop(run.run_id, None)
            elif self.clock() >= signal.again:
                self._signal(run)
        # A workflow that has not begun has no time of its last change.
        moved_at = max(status.updated_at, run.accepted_at)
        idle = (self.now() - moved_at).total_seconds()
        if idle < self.stuck_after:
            self.stuck.pop(run.run_id, None)
        elif run.run_id not in self.stuck:
            self.stuck[run.run_id] = idle
            # Reported, not signalled: a tool that takes long is no lost one, and must not be executed beside itself.
            self.events.record("run-stuck", run_id=run.run_id, idle_seconds=round(idle, 1), status=status.status)

    def _forget(self, run_id: str) -> None:
        self.signals.pop(run_id, None)
        self.stuck.pop(run_id, None)

    def _ask(self, question: Callable[[Workflows], T]) -> T:
        failure: WorkflowUnavailableError | None = None
        # Every question has a turn of its own: threads that shared one would ask a lost sidecar twice.
        turn = next(self._turn)
        for offset in range(len(self.workflows)):
            try:
                return question(self.workflows[(turn + offset) % len(self.workflows)])
            except WorkflowUnavailableError as error:
                failure = error
        raise failure or WorkflowUnavailableError("the region has no sidecar")

    async def _open_runs(self) -> list[IndexedRun]:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self.runs.open_runs)

    async def _each(self, runs: list[IndexedRun], act: Callable[[IndexedRun], None]) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._pool, act, run) for run in runs))
