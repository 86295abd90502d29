"""A live run: the agent's coroutine, suspended between work items, and the operations that it waits for."""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from pydantic_ai_dapr.loop import WorkflowEventLoop
from pydantic_ai_dapr.types import RECOVER

current_run: contextvars.ContextVar[LiveRun | None] = contextvars.ContextVar("pydantic_ai_dapr.run", default=None)


class WorkflowContext(Protocol):
    """What the driver needs of Dapr's workflow context."""

    @property
    def instance_id(self) -> str: ...
    @property
    def current_utc_datetime(self) -> datetime: ...
    @property
    def is_replaying(self) -> bool: ...
    def call_activity(self, activity: str, /, *, input: object = None) -> Any: ...
    def create_timer(self, fire_at: timedelta, /) -> Any: ...
    def wait_for_external_event(self, name: str, /) -> Any: ...


@dataclass(frozen=True)
class Moment:
    """The workflow's time, and whether what happens now has happened before."""

    at: datetime
    replaying: bool


@dataclass
class Call:
    """An activity. `payload` makes its input, and is not asked during replay, where the input is in the history."""

    name: str
    payload: Callable[[], object]
    future: asyncio.Future[Any]
    at: datetime
    reissued: bool = False

    @property
    def settled(self) -> bool:
        return self.future.done()

    def issue(self, ctx: WorkflowContext) -> Any:
        return ctx.call_activity(self.name, input=None if ctx.is_replaying else self.payload())

    def deliver(self, value: object, error: Exception | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(value)
        else:
            self.future.set_exception(error)


@dataclass
class Alarm:
    """What a durable timer wakes: an asyncio handle, once, however many timers were set for it."""

    deadline: datetime
    handle: asyncio.TimerHandle
    fired: bool = False

    @property
    def settled(self) -> bool:
        return self.fired or self.handle.cancelled()


@dataclass
class Timer:
    """A durable timer for an alarm."""

    alarm: Alarm
    wake: Callable[[asyncio.Handle], None]
    at: datetime
    reissued: bool = False

    @property
    def settled(self) -> bool:
        return self.alarm.settled

    def issue(self, ctx: WorkflowContext) -> Any:
        return ctx.create_timer(max(self.alarm.deadline - self.at, timedelta(0)))

    def deliver(self, value: object, error: Exception | None) -> None:
        if not self.alarm.settled:
            self.alarm.fired = True
            self.wake(self.alarm.handle)


@dataclass
class Recover:
    """The one waiter for the external event `recover`."""

    settled: bool = False

    def issue(self, ctx: WorkflowContext) -> Any:
        return ctx.wait_for_external_event(RECOVER)

    def deliver(self, value: object, error: Exception | None) -> None:
        self.settled = True


Step = Call | Timer | Recover


@dataclass(frozen=True)
class Stage:
    """A moment at which the coroutine waited: how many steps there were, and which of them were open."""

    steps: int
    open: tuple[int, ...]


@dataclass
class LiveRun:
    """Drives one workflow instance's coroutine on a deterministic loop.

    `advance` runs the coroutine until it waits, and records the stage; `deliver` gives a step its answer. What
    was recorded lets a later work item, which sees the same history from its beginning, walk through the stages
    without running anything again.
    """

    instance_id: str
    make: Callable[[], Coroutine[Any, Any, Any]]
    moment: Moment
    steps: list[Step] = field(default_factory=list[Step])
    stages: list[Stage] = field(default_factory=list[Stage])
    delivered: list[tuple[int, object]] = field(default_factory=list[tuple[int, object]])
    ordinal: int = 0
    notes: dict[str, Any] = field(default_factory=dict[str, Any])
    """What operations remember of this run between two calls, e.g. the messages of the last model request."""

    def __post_init__(self) -> None:
        self.loop = WorkflowEventLoop(self.now, self._start_timer)
        self.root: asyncio.Task[Any] | None = None
        self._uuids = 0
        self._recovered: list[object] = []
        self._context = contextvars.Context()
        self._context.run(current_run.set, self)
        self.steps.append(Recover())

    def now(self) -> float:
        """The workflow's time, in Unix seconds."""
        return self.moment.at.timestamp()

    def uuid(self) -> uuid.UUID:
        """The next identifier: the same at every replay."""
        self._uuids += 1
        return uuid.uuid5(uuid.NAMESPACE_URL, f"dapr:{self.instance_id}:{self._uuids}")

    def next_ordinal(self) -> int:
        """The number of the next operation: the same at every replay."""
        self.ordinal += 1
        return self.ordinal

    def is_replaying(self) -> bool:
        """Whether what happens now has happened before, so that nothing of it may be reported again."""
        return self.loop.evicting or self.moment.replaying

    def call(self, name: str, payload: Callable[[], object]) -> asyncio.Future[Any]:
        """Schedule an activity; the future has its result."""
        if self.loop.evicting:
            raise asyncio.CancelledError
        future = self.loop.create_future()
        self.steps.append(Call(name, payload, future, self.moment.at))
        return future

    def advance(self) -> bool:
        """Run the coroutine until it waits or ends; True when it has ended."""
        if self.root is None:
            self.root = self._context.run(lambda: self.loop.create_task(self.make(), context=self._context))
        self.loop.run_ready()
        if self.root.done():
            return True
        still_open = tuple(number for number, step in enumerate(self.steps) if not step.settled)
        if all(isinstance(self.steps[number], Recover) for number in still_open):
            raise RuntimeError(
                "the agent waits for something that no durable operation will complete; "
                "do I/O and waiting in tools, or with asyncio.sleep"
            )
        self.stages.append(Stage(len(self.steps), still_open))
        return False

    def deliver(self, number: int, value: object, error: Exception | None) -> None:
        """Give a step its answer, the first one; `recover` issues again what is open since an earlier work item.

        It does so once for each value that it carries: a signal that is repeated, because the first took long, must
        not execute what the first has issued a second time.
        """
        self.delivered.append((number, value))
        step = self.steps[number]
        step.deliver(value, error)
        if isinstance(step, Recover):
            if value is None or value not in self._recovered:
                self._recovered.append(value)
                self._reissue()
            self.steps.append(Recover())

    def _reissue(self) -> None:
        now = self.moment.at
        for step in list(self.steps):
            if isinstance(step, Recover) or step.settled or step.reissued or step.at >= now:
                continue
            self.steps.append(replace(step, at=now))
            step.reissued = True

    def _start_timer(self, delay: float, handle: asyncio.TimerHandle) -> None:
        now = self.moment.at
        self.steps.append(Timer(Alarm(now + timedelta(seconds=delay), handle), self.loop.wake, now))
