"""A workflow engine in memory, with Dapr's semantics: every work item replays the whole history from its beginning.

Its tasks are the SDK's own. Wake-ups (activities and timers that are to run) are kept apart from the history, as
Dapr keeps them in its scheduler, so that a test can lose them all.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Generator
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from dapr.ext.workflow._durabletask import task
from dapr.ext.workflow._durabletask.internal import protos as pb

BEGAN = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)  # as the SDK gives it
Workflow = Callable[..., Generator[Any, Any, Any]]
Handler = Callable[[str, Any], Any]


@dataclass(frozen=True)
class Event:
    """One event of the history."""

    kind: str
    id: int = -1
    name: str = ""
    value: Any = None
    failed: bool = False
    app_id: str | None = None
    patches: tuple[str, ...] = ()
    execution_id: str = ""
    """Of a task: another one at each repetition of the turn that asks for it."""


class NonDeterminismError(AssertionError):
    """A replay asked for something else than the history has."""


@dataclass
class Context:
    """What a workflow sees of the engine during one work item."""

    instance_id: str
    history: list[Event]
    current_utc_datetime: datetime = BEGAN
    is_replaying: bool = True
    open: dict[int, task.CompletableTask[Any]] = field(default_factory=dict)
    asked: list[Event] = field(default_factory=list)
    waiting: dict[str, deque[task.CompletableTask[Any]]] = field(default_factory=dict)
    buffered: dict[str, deque[Any]] = field(default_factory=dict)
    next_input: Any = None
    custom_status: str = ""
    patches: list[str] = field(default_factory=list)
    known_patches: set[str] = field(default_factory=set)
    applied: dict[str, bool] = field(default_factory=dict)

    def is_patched(self, patch_name: str, /) -> bool:
        applies = self.applied.setdefault(patch_name, patch_name in self.known_patches or not self.is_replaying)
        if applies:
            self.patches.append(patch_name)
        return applies

    def set_custom_status(self, custom_status: str, /) -> None:
        self.custom_status = custom_status

    def call_activity(
        self, activity: str, /, *, input: object = None, app_id: str | None = None
    ) -> task.CompletableTask[Any]:
        return self._ask("scheduled", activity, input, app_id)

    def call_child_workflow(
        self, workflow: str, /, *, input: object = None, instance_id: str | None = None
    ) -> task.CompletableTask[Any]:
        return self._ask("scheduled", workflow, input)

    def create_timer(self, fire_at: timedelta, /) -> task.CompletableTask[Any]:
        return self._ask("timer", "", fire_at)

    def continue_as_new(self, new_input: Any, /, *, save_events: bool = False) -> None:
        assert save_events
        self.next_input = new_input

    def wait_for_external_event(self, name: str, /) -> task.CompletableTask[Any]:
        waiter: task.CompletableTask[Any] = task.CompletableTask()
        if self.buffered.get(name):
            waiter.complete(self.buffered[name].popleft())
        else:
            self.waiting.setdefault(name, deque()).append(waiter)
        return waiter

    def _ask(self, kind: str, name: str, value: object, app_id: str | None = None) -> task.CompletableTask[Any]:
        number = len(self.asked) + 1
        execution_id = f"{self.current_utc_datetime.isoformat()}#{number}"
        self.asked.append(Event(kind, number, name, value, app_id=app_id, execution_id=execution_id))
        self.open[number] = task.CompletableTask()
        return self.open[number]

    def take(self, event: Event) -> None:
        """Apply one event of the history."""
        if event.kind == "turn":
            self.current_utc_datetime = event.value
            self.known_patches |= set(event.patches)
        elif event.kind in ("scheduled", "timer"):
            asked = self.asked[event.id - 1] if event.id <= len(self.asked) else None
            if asked is None or (asked.kind, asked.name) != (event.kind, event.name):
                raise NonDeterminismError(f"the history has {event}, the replay asked for {asked}")
        elif event.kind == "raised":
            if self.waiting.get(event.name):
                self.waiting[event.name].popleft().complete(event.value)
            else:
                self.buffered.setdefault(event.name, deque()).append(event.value)
        elif event.id in self.open:
            waiter = self.open.pop(event.id)
            if event.failed:
                waiter.fail(str(event.value), pb.TaskFailureDetails(errorType="Error", errorMessage=str(event.value)))
            else:
                waiter.complete(event.value)


def activity_context(instance_id: str, task: Event) -> SimpleNamespace:
    """What an activity sees of the engine."""
    inner = SimpleNamespace(task_execution_id=task.execution_id)
    return SimpleNamespace(workflow_id=instance_id, task_id=task.id, get_inner_context=lambda: inner)


_SAVED = ("input", "executions", "earlier", "history", "inbox", "wakeups", "result", "ended", "custom_status")


@dataclass
class Engine:
    """Runs one instance of `workflow`, one work item at a time."""

    workflow: Workflow
    instance_id: str = "run-1"
    input: Any = None
    executions: int = 1
    earlier: list[Event] = field(default_factory=list)
    """The histories of earlier executions."""
    history: list[Event] = field(default_factory=list)
    inbox: list[Event] = field(default_factory=list)
    wakeups: dict[int, Event] = field(default_factory=dict)
    result: Any = None
    ended: bool = False
    custom_status: str = ""
    _now: datetime = BEGAN

    def turn(self, now: datetime | None = None) -> None:
        """One work item: the whole history again, then what is in the inbox."""
        self._before = self.saved()
        self._now = now = (now or self._now) + timedelta(seconds=1)
        new = [Event("turn", value=now), *self.inbox]
        self._context = context = Context(self.instance_id, self.history)
        generator = self.workflow(context) if self.input is None else self.workflow(context, self.input)
        waits: Any = None
        begun = False
        for number, event in enumerate([*self.history, *new]):
            context.is_replaying = number < len(self.history)
            context.take(event)
            if not begun:
                begun = True
                waits = self._resume(generator, None)
            while not self.ended and waits is not None and waits.is_complete:
                waits = self._resume(generator, waits)
            if self.ended:
                break
        if context.next_input is not None:
            self._continue(context, now)
            return
        before = [name for event in self.history for name in event.patches]
        if context.patches[: len(before)] != before:
            raise NonDeterminismError(f"the history has the patches {before}, the replay met {context.patches}")
        new[0] = replace(new[0], patches=tuple(context.patches[len(before) :]))
        self.custom_status = context.custom_status
        asked = context.asked[sum(event.kind in ("scheduled", "timer") for event in self.history) :]
        self.history += [*new, *asked]
        self.wakeups |= {event.id: event for event in asked}
        self.inbox = []

    def _resume(self, generator: Generator[Any, Any, Any], waited: Any) -> Any:
        try:
            return generator.send(waited.get_result() if waited is not None else None)
        except StopIteration as stop:
            if self._context.next_input is None:
                self.ended, self.result = True, stop.value
            return None

    def _continue(self, context: Context, now: datetime) -> None:
        """Begin again with an empty history, in the same work item; what was being executed is forgotten."""
        self.input = json.loads(json.dumps(context.next_input))
        self.earlier += self.history
        self.history, self.wakeups = [], {}
        self.executions += 1
        self.inbox = [
            Event("raised", name=name, value=value) for name, values in context.buffered.items() for value in values
        ]
        before = self._before
        self.turn(now)
        self._before = before

    def saved(self) -> dict[str, Any]:
        """What the engine has of the instance in its store."""
        return {name: copy(getattr(self, name)) for name in _SAVED}

    def lose_turn(self) -> None:
        """The last turn was not saved: what it asked for is under way, and the history knows nothing of it."""
        vars(self).update(self._before)

    def serve(self, number: int, handler: Handler) -> None:
        """Run one wake-up, and put its answer into the inbox."""
        event = self.wakeups.pop(number)
        if event.kind == "timer":
            self.inbox.append(Event("fired", number))
            return
        try:
            self.inbox.append(Event("completed", number, value=handler(event.name, event.value)))
        except Exception as error:
            self.inbox.append(Event("completed", number, value=error, failed=True))

    def fail_over(self, token: str | None = None) -> None:
        """Lose every wake-up, and raise `recover` as the sweep does."""
        self.wakeups.clear()
        self.signal(token)

    def signal(self, token: str | None = None) -> None:
        """Raise `recover`."""
        self.inbox.append(Event("raised", name="recover", value=token))

    def awaited(self) -> set[str]:
        """The external events that the workflow waits for, but for `recover`."""
        return {name for name, waiters in self._context.waiting.items() if waiters} - {"recover"}

    def run(self, handler: Handler) -> Any:
        """From the beginning to the end, without a fault."""
        self.turn()
        return self.run_on(handler)

    def run_on(self, handler: Handler) -> Any:
        """To the end, without a further fault."""
        while not self.ended:
            for number in list(self.wakeups):
                self.serve(number, handler)
            assert self.inbox, "the workflow waits for nothing that can happen"
            self.turn()
        return self.result
