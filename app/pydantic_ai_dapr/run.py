"""A live run: the agent's coroutine, suspended between work items, and the operations that it waits for."""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from pydantic_ai_dapr.clock import RunClock
from pydantic_ai_dapr.errors import ErrorValue, OperationFailedError, rebuild
from pydantic_ai_dapr.loop import WorkflowEventLoop
from pydantic_ai_dapr.payloads import Reference
from pydantic_ai_dapr.types import RECOVER, Operation

current_run: contextvars.ContextVar[LiveRun | None] = contextvars.ContextVar("pydantic_ai_dapr.run", default=None)


WAKE_ACTIVITY = "pydantic_ai_dapr.wake"
"""Recovers a child workflow: `AgentRunClient.wake_child`."""
ORPHAN_SECONDS = 5.0


class WorkflowContext(Protocol):
    """What the driver needs of Dapr's workflow context."""

    @property
    def instance_id(self) -> str: ...
    @property
    def current_utc_datetime(self) -> datetime: ...
    @property
    def is_replaying(self) -> bool: ...
    def call_activity(self, activity: str, /, *, input: object = None) -> Any: ...
    def call_child_workflow(self, workflow: str, /, *, input: object = None, instance_id: str | None = None) -> Any: ...
    def create_timer(self, fire_at: timedelta, /) -> Any: ...
    def wait_for_external_event(self, name: str, /) -> Any: ...
    def continue_as_new(self, new_input: Any, /, *, save_events: bool = False) -> None: ...
    def is_patched(self, patch_name: str, /) -> bool: ...
    def set_custom_status(self, custom_status: str, /) -> None: ...


class PayloadAccess(Protocol):
    """Keeps large payloads out of the history; `journal.Journal` is one."""

    def offload(self, instance_id: str, value: Any) -> Any: ...
    def resolve(self, value: Any) -> Any: ...


@dataclass(frozen=True)
class Moment:
    """The workflow's time, and whether what happens now has happened before."""

    at: datetime
    replaying: bool


@dataclass(frozen=True)
class Answer:
    """What a step was answered, and when: a value, or an error as a value."""

    number: int
    value: object
    error: ErrorValue | None
    moment: Moment
    attempt: tuple[int, int] | None = None
    """Of an operation: its ordinal and attempt."""
    event: str | None = None
    """Of an external event: its name."""


def identity(operation: Operation | None) -> dict[str, Any]:
    """What an operation is, without its parameters: as in its activity's input."""
    if operation is None:
        return {}
    return {
        "run": operation.run_id,
        "ordinal": operation.ordinal,
        "kind": operation.kind,
        "name": operation.name,
        "attempt": operation.attempt,
    }


@dataclass
class Call:
    """An activity. `payload` makes its input, and is not asked where the input is in the history and taken from it."""

    name: str
    payload: Callable[[], object]
    future: asyncio.Future[Any]
    at: datetime
    reissued: bool = False
    operation: Operation | None = None
    """What the call is an attempt at, which the journal remembers."""

    @property
    def settled(self) -> bool:
        return self.future.done()

    @property
    def attempt(self) -> tuple[int, int] | None:
        return (self.operation.ordinal, self.operation.attempt) if self.operation else None

    def issue(self, ctx: WorkflowContext) -> Any:
        compares = getattr(ctx, "compares", None) if self.operation else None
        if compares == "operations":
            return ctx.call_activity(self.name, input=identity(self.operation))
        known = ctx.is_replaying and compares != "inputs"
        return ctx.call_activity(self.name, input=None if known else self.payload())

    def deliver(self, answer: Answer) -> None:
        if self.future.done():
            return
        if answer.error is None:
            self.future.set_result(answer.value)
        else:
            self.future.set_exception(rebuild(answer.error))


@dataclass
class ChildRun(Call):
    """A child workflow. One that doesn't hear `recover` can't be woken: another one is started in its place."""

    instance_id: str = ""
    hears_recover: bool = True

    def issue(self, ctx: WorkflowContext) -> Any:
        value = None if ctx.is_replaying else self.payload()
        return ctx.call_child_workflow(self.name, input=value, instance_id=self.instance_id)


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

    def deliver(self, answer: Answer) -> None:
        if not self.alarm.settled:
            self.alarm.fired = True
            self.wake(self.alarm.handle)


@dataclass
class Signal:
    """Waits for one external event, whose name no other wait of the run has."""

    name: str
    future: asyncio.Future[Any]

    @property
    def settled(self) -> bool:
        return self.future.done()

    def issue(self, ctx: WorkflowContext) -> Any:
        return ctx.wait_for_external_event(self.name)

    def deliver(self, answer: Answer) -> None:
        if not self.future.done():
            self.future.set_result(answer.value)


@dataclass
class Recover:
    """The one waiter for the external event `recover`."""

    settled: bool = False

    def issue(self, ctx: WorkflowContext) -> Any:
        return ctx.wait_for_external_event(RECOVER)

    def deliver(self, answer: Answer) -> None:
        self.settled = True


Step = Call | Timer | Signal | Recover


@dataclass(frozen=True)
class Stage:
    """A moment at which the coroutine waited: the steps that were open, and the patches that it had come by."""

    open: tuple[int, ...]
    patches: tuple[str, ...] = ()


@dataclass
class LiveRun:
    """Drives one workflow instance's coroutine on a deterministic loop.

    `advance` runs the coroutine until it waits, and records the stage; `deliver` gives a step its answer. What
    was recorded lets a later work item, which sees the same history from its beginning, walk through the stages
    without running anything again. Steps have numbers that grow over the whole run; stages and answers are those
    of the current segment, which is one execution of the workflow between two `continue_as_new`.
    """

    instance_id: str
    make: Callable[[], Coroutine[Any, Any, Any]]
    moment: Moment
    payloads: PayloadAccess | None = None
    steps: dict[int, Step] = field(default_factory=dict[int, Step])
    stages: list[Stage] = field(default_factory=list[Stage])
    delivered: list[Answer] = field(default_factory=list[Answer])
    segment: int = 0
    head: Reference | None = None
    """Where the journal has the answers of this segment, once it has been cut."""
    ordinal: int = 0
    uuids: int = 0
    notes: dict[str, Any] = field(default_factory=dict[str, Any])
    """What operations remember of this run between two calls, e.g. the messages of the last model request."""

    def __post_init__(self) -> None:
        self.loop = WorkflowEventLoop(self.now, self._start_timer)
        self.clock = RunClock()
        self.root: asyncio.Task[Any] | None = None
        self.begun = self.moment
        self.patches: dict[str, bool] = {}
        self.ask_patch: Callable[[str], bool] = lambda name: True
        self._passed: list[str] = []
        self._count = self.issued = 0
        self._recovered: list[object] = []
        self._context = contextvars.Context()
        self._context.run(current_run.set, self)
        self._add(Recover())

    def now(self) -> float:
        """The workflow's time, in Unix seconds."""
        return self.moment.at.timestamp()

    def uuid(self) -> uuid.UUID:
        """The next identifier: the same at every replay, and where the run is run again under another instance id."""
        self.uuids += 1
        run_id = self.notes.get("run_id", self.instance_id)
        return uuid.uuid5(uuid.NAMESPACE_URL, f"dapr:{run_id}:{self.uuids}")

    def next_ordinal(self) -> int:
        """The number of the next operation: the same at every replay."""
        self.ordinal += 1
        return self.ordinal

    def is_replaying(self) -> bool:
        """Whether what happens now has happened before, so that nothing of it may be reported again."""
        return self.loop.evicting or self.moment.replaying

    def call(self, name: str, payload: Callable[[], object], operation: Operation | None = None) -> asyncio.Future[Any]:
        """Schedule an activity; the future has its result."""
        future = self._future()
        self._add(Call(name, payload, future, self.moment.at, operation=operation))
        return future

    def call_child(
        self, name: str, payload: Callable[[], object], instance_id: str, *, hears_recover: bool = True
    ) -> asyncio.Future[Any]:
        """Start a child workflow; the future has its result."""
        future = self._future()
        child = ChildRun(name, payload, future, self.moment.at, instance_id=instance_id, hears_recover=hears_recover)
        self._add(child)
        return future

    def signal(self, name: str) -> asyncio.Future[Any]:
        """Wait for the external event `name`, which must be unique in the run; the future has its value."""
        future = self._future()
        self._add(Signal(name, future))
        return future

    def is_patched(self, name: str) -> bool:
        """Whether the code that `name` stands for applies: not to a run that came by here before it was deployed."""
        if name not in self.patches:
            self.patches[name] = self.ask_patch(name)
            self._passed.append(name)
        return self.patches[name]

    def offload(self, value: Any) -> Any:
        """`value`, or a reference to it where it is too large for the history."""
        return self.payloads.offload(self.instance_id, value) if self.payloads else value

    def resolve(self, value: Any) -> Any:
        """What was given to `offload`, here or where an operation was executed."""
        return self.payloads.resolve(value) if self.payloads else value

    def advance(self) -> bool:
        """Run the coroutine until it waits or ends; True when it has ended."""
        if self.root is None:
            self.root = self._context.run(lambda: self.loop.create_task(self.make(), context=self._context))
        with self.clock.running(self.moment.at):
            self.loop.run_ready()
        if self.root.done():
            return True
        still_open = tuple(number for number, step in self.steps.items() if not step.settled)
        if all(isinstance(self.steps[number], Recover) for number in still_open):
            raise RuntimeError(
                "the agent waits for something that no durable operation will complete; "
                "do I/O and waiting in tools, or with asyncio.sleep"
            )
        self.stages.append(Stage(still_open, tuple(self._passed)))
        self._passed.clear()
        return False

    def deliver(self, answer: Answer) -> None:
        """Give a step its answer, the first one; `recover` issues again what is open since an earlier work item.

        It does so once for each value that it carries: a signal that is repeated, because the first took long, must
        not execute what the first has issued a second time.
        """
        self.moment = answer.moment
        self.delivered.append(answer)
        step = self.steps[answer.number]
        step.deliver(answer)
        if isinstance(step, Recover):
            if answer.value is None or answer.value not in self._recovered:
                self._recovered.append(answer.value)
                self._reissue(answer.value)
            self._add(Recover())

    def unwind(self) -> None:
        """End the run in this process: unwind what is suspended, and refer to nothing in a circle any more.

        What circles refer to stays until a full collection, which takes the longer the more is alive.
        """
        self.loop.evict()
        self.root = None
        self.steps.clear()
        self.notes.clear()
        self._context = contextvars.Context()

    def begin_segment(self, begun: Moment) -> None:
        """Go on in the next segment, which issues again what is open and nothing else."""
        self.segment += 1
        self.begun = self.moment = begun
        self.stages, self.delivered = [], []
        self.steps = {
            number: step
            for number, step in self.steps.items()
            if not step.settled and not (isinstance(step, Call | Timer) and step.reissued)
        }
        for step in self.steps.values():
            if isinstance(step, Call | Timer):
                step.at = begun.at

    def _reissue(self, token: object) -> None:
        now = self.moment.at
        for step in list(self.steps.values()):
            if isinstance(step, Recover | Signal) or step.settled or step.reissued or step.at >= now:
                continue
            if isinstance(step, ChildRun) and step.hears_recover:
                self.loop.create_task(self._wake(step, token), context=self._context)
                continue
            again = replace(step, at=now)
            if isinstance(again, ChildRun):
                again.instance_id += ".again"
            self._add(again)
            step.reissued = True

    async def _wake(self, child: ChildRun, token: object) -> None:
        """Recover a child workflow; one that can't tell its parent of its end is asked for it."""
        wanted = {"run_id": child.instance_id, "workflow": child.name, "value": child.payload(), "token": token}
        while not child.future.done():
            answer = await self.call(WAKE_ACTIVITY, lambda: wanted)
            if child.future.done():
                return
            if "output" in answer:
                child.future.set_result(answer["output"])
            elif "error" in answer:
                child.future.set_exception(OperationFailedError("{type}: {message}".format(**answer["error"])))
            elif not answer.get("orphan"):
                return
            await asyncio.sleep(ORPHAN_SECONDS)

    def _add(self, step: Step) -> None:
        self.steps[self._count] = step
        self._count += 1

    def _future(self) -> asyncio.Future[Any]:
        if self.loop.evicting:
            raise asyncio.CancelledError
        return self.loop.create_future()

    def _start_timer(self, delay: float, handle: asyncio.TimerHandle) -> None:
        now = self.moment.at
        self._add(Timer(Alarm(now + timedelta(seconds=delay), handle), self.loop.wake, now))
