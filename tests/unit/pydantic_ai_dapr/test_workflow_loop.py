"""The loop takes time and wake-ups from the workflow alone, and refuses what it can't make durable."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from pydantic_ai_dapr import loop as workflow_loop
from pydantic_ai_dapr.loop import InlineExecutor, WorkflowEventLoop

pytestmark = pytest.mark.unit


class Clock:
    """The workflow's clock, and the timers that were asked of it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, asyncio.TimerHandle]] = []
        self.loop = WorkflowEventLoop(lambda: self.now, lambda delay, handle: self.timers.append((delay, handle)))

    def drive(self, body: Any) -> asyncio.Task[Any]:
        task = self.loop.create_task(body)
        self.loop.run_ready()
        return task


def test_a_sleep_is_a_timer_of_the_workflow() -> None:
    clock = Clock()
    task = clock.drive(asyncio.sleep(5, "awake"))
    assert not task.done()
    ((delay, handle),) = clock.timers
    assert delay == 5
    clock.now = 105
    clock.loop.wake(handle)
    clock.loop.run_ready()
    assert task.result() == "awake"


def test_no_other_thread_can_wake_it() -> None:
    with pytest.raises(RuntimeError, match="do blocking work in a tool"):
        Clock().loop.call_soon_threadsafe(print)


def test_an_executor_runs_at_once_and_here() -> None:
    async def body() -> tuple[int, str]:
        running = asyncio.get_running_loop()
        value = await running.run_in_executor(None, lambda: 3)
        try:
            await running.run_in_executor(None, lambda: 1 / 0)
        except ZeroDivisionError as error:
            return value, str(error)
        return value, ""

    assert Clock().drive(body()).result() == (3, "division by zero")
    assert InlineExecutor().submit(lambda: 4).result() == 4
    assert isinstance(InlineExecutor().submit(lambda: 1 / 0).exception(), ZeroDivisionError)


def test_a_coroutine_that_never_waits_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow_loop, "MAX_CALLBACKS", 50)

    async def spins() -> None:
        for _ in range(1000):
            await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="without waiting"):
        Clock().drive(spins())


def test_an_error_that_nobody_awaits_is_logged_but_not_while_unwinding(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with caplog.at_level(logging.ERROR):
        clock.loop.default_exception_handler({"message": "lost", "exception": ValueError("x")})
        clock.loop.evict()
        clock.loop.call_exception_handler({"message": "lost again"})
    # Tasks of other tests may be collected meanwhile, and tell of it.
    told = [record.getMessage() for record in caplog.records if "lost" in record.getMessage()]
    assert told == ["in a durable run: lost"]
    assert clock.loop.is_closed()


def test_it_looks_like_a_running_loop_to_libraries() -> None:
    loop = Clock().loop
    assert loop.is_running()
    assert not loop.get_debug()
    assert loop.get_task_factory() is None
    assert loop.get_exception_handler() is None
    asyncio.run(loop.shutdown_asyncgens())


def test_an_unwound_task_runs_its_finally_and_may_not_wait_again() -> None:
    clock = Clock()
    seen: list[str] = []

    async def body() -> None:
        try:
            await asyncio.sleep(5)
        finally:
            await asyncio.sleep(5)
            seen.append("unwound")

    task = clock.drive(body())
    clock.loop.evict()
    assert seen == ["unwound"]
    assert task.cancelled()


def test_code_that_makes_its_loop_the_threads_does_so_for_as_long_as_it_runs() -> None:
    before = asyncio.new_event_loop()
    asyncio.set_event_loop(before)
    clock = Clock()

    async def body() -> None:
        asyncio.set_event_loop(asyncio.get_running_loop())
        await asyncio.sleep(5)

    clock.drive(body())
    assert asyncio.get_event_loop() is before
    clock.loop.evict()
    asyncio.set_event_loop(None)
    before.close()
