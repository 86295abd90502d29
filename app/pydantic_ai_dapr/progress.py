"""How far the body of a tool has come: the steps that it has done, and the sleeps that are over.

An activity that waited for days would be lost with its worker, and hold a place there. So a body that is to sleep is
unwound, and its attempt answers for how long. The workflow keeps the timer, and then makes another attempt, which runs
the body from its beginning: what the last answer tells of steps and sleeps is not done, but answered at once.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar

from pydantic_ai_dapr.run import current_run
from pydantic_ai_dapr.tracing import carried, continued, remark
from pydantic_ai_dapr.types import Operation

T = TypeVar("T")
PROGRESS = "progress"
"""Where an answer, and the parameters of the next attempt, have what was done."""


async def durable_sleep(delay: timedelta) -> None:
    """Sleep inside an asynchronous tool for at least `delay`, whatever happens to its worker meanwhile.

    Nothing is held meanwhile: the body is unwound here, with its `finally` and `with` blocks, and when the time has
    come it is run again from its beginning, wherever a worker is, by another attempt with the same idempotency key.
    Sleeps that are over return at once then, and so does each `durable_step` that is done; what else comes before a
    sleep is executed again, so it must lead there again. The tool's `timeout` counts anew for each attempt, without
    the time asleep, and a run that is ended doesn't wait for it.

    Outside a durable run, and in what runs inside the workflow, this is `asyncio.sleep`. Raises RuntimeError in a
    task of the tool, in a step, and in an agent that the tool runs inline: make that one a `ChildAgent`.
    """
    progress = _current.get()
    if progress is None:
        await asyncio.sleep(delay.total_seconds())
    else:
        progress.sleep(delay.total_seconds())


async def durable_step(name: str, action: Callable[[], Awaitable[T]]) -> T:
    """Do a part of an asynchronous tool once: after a `durable_sleep`, or an error that is tried again, its value is
    remembered and `action` isn't called.

    Steps go by their names, and one that is repeated by how often it was. A step in flight at a crash may be done
    again, as a whole tool may, so what changes the world carries `current_operation().key` and the step's name along;
    one that raises isn't done. The value is kept in the run's history with each later attempt of its tool, and must
    be plain data: TypeError where JSON would change it. RuntimeError is raised where `durable_sleep` raises it, and in
    what runs inside the workflow. Outside a durable run `action` is just called.
    """
    progress = _current.get()
    if progress is not None:
        return await progress.step(name, action)
    if current_run.get() is not None:
        raise RuntimeError(f"the step {name!r} is inside the workflow, which is replayed; do it in a tool")
    return _plain(name, await action())


class Suspended(BaseException):
    """Unwinds a body that is to sleep; a body that stops it fails."""


class Progress:
    """Of one attempt at an operation; `usage` is what it has spent on its run's account, as JSON."""

    def __init__(self, operation: Operation) -> None:
        self.usage: Any = None
        self._operation, self._task = operation, asyncio.current_task()
        self._slept, self._steps = 0, dict[str, Any]()
        self._sleeps, self._met = 0, Counter[str]()
        self._doing: str | None = None
        self._asleep: float | None = None

    def resume(self, told: Any) -> None:
        """Go on from what an earlier attempt's answer told."""
        if told is not None:
            self._slept, self._steps = told["slept"], told["steps"]

    async def answer(self, body: Callable[[], Awaitable[object]]) -> dict[str, Any]:
        """The body's value, or for how many seconds it is to sleep. Raises what the body raises."""
        try:
            value = await body()
        except (Suspended, BaseExceptionGroup) as error:
            if self._asleep is None or isinstance(error, Exception):
                raise
            return {"sleep": self._asleep}
        if self._asleep is not None:
            raise RuntimeError(
                f"the tool {self._operation.name} went on instead of sleeping: let what durable_sleep raises pass"
            )
        return {"ok": value}

    def told(self, *, done: bool) -> dict[str, Any]:
        """What an answer has to tell beside itself; what was `done` is not tried again."""
        told: dict[str, Any] = {} if self.usage is None else {"usage": self.usage}
        if not done and (self._slept or self._steps):
            told[PROGRESS] = {"slept": self._slept, "steps": self._steps}
        return told

    def relay(self, answer: dict[str, Any]) -> None:
        """Take over what was told where the operation was really executed; the body is unwound if it sleeps there."""
        self.resume(answer.get(PROGRESS))
        self.usage = answer.get("usage")
        if "sleep" in answer:
            self._asleep = answer["sleep"]
            raise Suspended

    def sleep(self, seconds: float) -> None:
        """Return where this sleep is over, else unwind the body."""
        self._demand_order("durable_sleep")
        self._sleeps += 1
        if self._sleeps <= self._slept:
            return
        self._slept = self._sleeps
        if seconds > 0:
            self._asleep = seconds
            raise Suspended

    async def step(self, name: str, action: Callable[[], Awaitable[T]]) -> T:
        """The step's value, made here or remembered, with what was said about the operation's span meanwhile."""
        self._demand_order(f"durable_step({name!r})")
        self._met[name] += 1
        key = name if self._met[name] == 1 else f"{name}#{self._met[name]}"
        if key not in self._steps:
            self._doing = name
            try:
                with continued(carried()) as remarks:
                    value = _plain(name, await action())
            finally:
                self._doing = None
            self._steps[key] = [value, remarks]
        value, remarks = self._steps[key]
        remark(remarks)
        return value

    def _demand_order(self, what: str) -> None:
        if self._asleep is not None:
            raise Suspended
        if self._operation.kind != "tool":
            raise RuntimeError(f"{what} is for tools; {self._operation.name} is a {self._operation.kind} operation")
        if self._doing is not None or asyncio.current_task() is not self._task:
            where = f"in the step {self._doing!r}" if self._doing is not None else "in another task than its body"
            raise RuntimeError(
                f"the tool {self._operation.name} called {what} {where}: its steps and sleeps must follow one another. "
                "Let one step do what is to be done at the same time, and make an agent that it asks a ChildAgent"
            )


_current: ContextVar[Progress | None] = ContextVar("pydantic_ai_dapr.progress", default=None)


def current_progress() -> Progress:
    """That of the attempt which is being executed here."""
    progress = _current.get()
    assert progress is not None
    return progress


@contextmanager
def progress_scope(operation: Operation) -> Generator[Progress]:
    """An attempt at the operation is executed in here, by this task."""
    progress = Progress(operation)
    token = _current.set(progress)
    try:
        yield progress
    finally:
        _current.reset(token)


def _plain(name: str, value: T) -> T:
    """The value as it is remembered. Raises TypeError where it would be another one."""
    kept: Any = None
    with suppress(TypeError, ValueError):
        kept = json.loads(json.dumps(value))
    if kept != value:
        raise TypeError(
            f"the step {name!r} gave a {type(value).__name__} that JSON can't carry to the next attempt as it is; "
            "let it return plain data: None, numbers, text, lists, and dictionaries by text"
        )
    return kept
