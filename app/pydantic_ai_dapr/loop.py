"""A deterministic asyncio event loop: it runs what is ready, and takes time and I/O from the workflow alone.

Between two work items nothing moves. No thread can wake it, no clock can: a timer is a durable timer, and the time
is the workflow's. The same history therefore gives the same interleaving, at the first execution and at replay.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from contextvars import Context
from typing import Any, NoReturn, ParamSpec, TypeVar

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
MAX_CALLBACKS = 1_000_000
EVICTION_ROUNDS = 20


def _refused(*_: object) -> NoReturn:
    raise RuntimeError("the run was unwound")


def _loop_of_thread() -> asyncio.AbstractEventLoop | None:
    """The loop that was made this thread's, if any was. To ask asyncio for it would make one."""
    policy = asyncio.get_event_loop_policy()  # pyright: ignore[reportDeprecated]
    return getattr(getattr(policy, "_local", None), "_loop", None)


class InlineExecutor(Executor):
    """Runs what it is given at once and here: there are no threads inside a workflow."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class WorkflowEventLoop(asyncio.AbstractEventLoop):
    """`now` is the workflow's time in Unix seconds, `start_timer(delay, callback)` a durable timer."""

    def __init__(self, now: Callable[[], float], start_timer: Callable[[float, asyncio.TimerHandle], None]) -> None:
        self._now, self._start_timer = now, start_timer
        self._ready: deque[asyncio.Handle] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.evicting = False
        self._closed = False

    def run_ready(self) -> None:
        """Run callbacks until none is ready. Raises RuntimeError when they never cease."""
        threads = _loop_of_thread()
        previous = events._get_running_loop()  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
        events._set_running_loop(self)  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue, reportUnknownMemberType]
        try:
            for _ in range(MAX_CALLBACKS):
                if not self._ready:
                    return
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue, reportUnknownMemberType]
            raise RuntimeError(f"the agent's coroutine ran {MAX_CALLBACKS} callbacks without waiting for anything")
        finally:
            events._set_running_loop(previous)  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue, reportUnknownMemberType]
            if _loop_of_thread() is self:  # LangGraph makes what it runs in the thread's, for good
                asyncio.set_event_loop(threads)

    def evict(self) -> None:
        """Unwind every suspended task inside its own context; what it asks for meanwhile is refused. The last call."""
        self.evicting = True
        for _ in range(EVICTION_ROUNDS):
            alive = [task for task in self._tasks if not task.done()]
            if not alive:
                break
            for task in alive:
                task.cancel()
            self.run_ready()
        self._closed = True
        self._ready.clear()
        self._now, self._start_timer = _refused, _refused

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:  # pyright: ignore[reportIncompatibleMethodOverride]
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def wake(self, handle: asyncio.Handle) -> None:
        """Run a handle when the loop is driven next."""
        self._ready.append(handle)

    def call_soon_threadsafe(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> NoReturn:
        raise RuntimeError(
            "another thread can't wake a durable run; do blocking work in a tool, which runs outside the workflow"
        )

    def call_later(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        delay = when - self.time()
        if delay <= 0 or self.evicting:
            self._ready.append(handle)
        else:
            self._start_timer(delay, handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A durable timer that was cancelled fires into nothing."""

    def time(self) -> float:
        return self._now()

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **_: Any,
    ) -> asyncio.Task[T]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def run_in_executor(self, executor: Executor | None, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # pyright: ignore[reportIncompatibleMethodOverride]
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.evicting:
            log.error("in a durable run: %s", context.get("message"), exc_info=context.get("exception"))

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def get_exception_handler(self) -> None:
        return None

    def get_task_factory(self) -> None:
        return None

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._closed

    async def shutdown_asyncgens(self) -> None:
        return None
