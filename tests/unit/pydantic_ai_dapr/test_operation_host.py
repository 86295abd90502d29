"""An operation is executed once in a process, however often it is delivered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from pydantic_ai_dapr import Attempt, Operation, current_operation, host
from pydantic_ai_dapr.errors import DroppedWorkError
from pydantic_ai_dapr.host import OperationHost

pytestmark = pytest.mark.unit


def operation(ordinal: int = 1, attempt: int = 1) -> Operation:
    return Operation("run-1", "run-1", ordinal, "tool", "note", attempt)


@pytest.fixture
def attempts() -> list[Attempt]:
    return []


@pytest.fixture
def hosting(attempts: list[Attempt]) -> Iterator[OperationHost]:
    made = OperationHost(attempts.append)
    yield made
    made.stop()


def phases(attempts: list[Attempt]) -> list[tuple[str, str | None, bool]]:
    return [(attempt.phase, attempt.outcome, attempt.joined) for attempt in attempts]


def test_a_second_delivery_joins_the_running_execution(hosting: OperationHost, attempts: list[Attempt]) -> None:
    entered, release = threading.Event(), threading.Event()

    async def body() -> str:
        entered.set()
        await asyncio.to_thread(release.wait, 5)
        return "noted"

    async def never() -> str:
        raise AssertionError("executed twice")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(hosting.execute, operation(), body)
        assert entered.wait(5)
        second = pool.submit(hosting.execute, operation(), never)
        while len(attempts) < 2:
            assert not second.done()
        release.set()
        assert first.result(5) == second.result(5) == {"ok": "noted"}
    assert phases(attempts) == [("started", None, False), ("started", None, True), ("ended", "ok", False)]


def test_a_late_delivery_gets_the_remembered_answer(hosting: OperationHost, attempts: list[Attempt]) -> None:
    async def body() -> str:
        return current_operation().key

    assert hosting.execute(operation(), body) == {"ok": "run-1:1"}
    while not hosting.remembers(operation()):
        pass
    assert hosting.execute(operation(), body) == {"ok": "run-1:1"}
    assert len(attempts) == 2


def test_another_attempt_is_another_execution(hosting: OperationHost) -> None:
    calls: list[int] = []

    async def body() -> int:
        calls.append(current_operation().attempt)
        return len(calls)

    assert [hosting.execute(operation(attempt=number), body)["ok"] for number in (1, 2)] == [1, 2]
    assert calls == [1, 2]


def test_an_error_is_an_answer(hosting: OperationHost, attempts: list[Attempt]) -> None:
    async def body() -> None:
        raise ValueError("wrong")

    assert hosting.execute(operation(), body) == {"err": {"type": "ValueError", "message": "wrong", "retryable": False}}
    assert phases(attempts)[-1] == ("ended", "error", False)


def test_only_so_many_answers_are_remembered(hosting: OperationHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "REMEMBERED", 1)

    async def body() -> int:
        return current_operation().ordinal

    for ordinal in (1, 2):
        hosting.execute(operation(ordinal), body)
        while not hosting.remembers(operation(ordinal)):
            pass
    assert not hosting.remembers(operation(1))


def test_stopping_ends_what_runs() -> None:
    hosting = OperationHost()
    entered = threading.Event()

    async def body() -> None:
        entered.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(hosting.execute, operation(), body)
        assert entered.wait(5)
        hosting.stop()
        with pytest.raises(DroppedWorkError):
            running.result(5)


def test_what_runs_for_a_run_that_was_ended_is_cancelled() -> None:
    hosting, entered = OperationHost(), threading.Event()

    async def body() -> None:
        entered.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(hosting.execute, operation(), body)
        assert entered.wait(5)
        assert hosting.instances(older_than=0) == {operation().instance_id}
        hosting.cancel("another run")
        assert not running.done()
        hosting.cancel(operation().instance_id)
        assert running.result(5)["err"]["type"] == "OperationCancelledError"
    assert hosting.instances(older_than=0) == set()
    hosting.stop()


def test_what_is_delivered_after_the_end_is_dropped() -> None:
    hosting = OperationHost()
    hosting.stop()

    async def body() -> str:
        return "late"

    with pytest.raises(DroppedWorkError):
        hosting.execute(operation(), body)


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        ("model", {"model_name": "m", "usage": {"input_tokens": 9, "output_tokens": 2}}, ("m", (9, 2))),
        ("model", {"model_name": "m", "usage": {"output_tokens": 2}}, ("m", (0, 2))),
        ("model", {"model_name": "m"}, ("m", None)),
        ("model", "a stream's end", (None, None)),
        ("tool", {"model_name": "m", "usage": {"input_tokens": 9}}, (None, None)),
    ],
)
def test_the_end_of_a_model_request_says_which_model_answered_and_how_many_tokens_it_took(
    hosting: OperationHost, attempts: list[Attempt], kind: str, value: object, told: object
) -> None:
    async def body() -> object:
        return value

    hosting.execute(replace(operation(), kind=kind), body)  # type: ignore[arg-type]
    started, ended = attempts
    assert (started.model, started.tokens) == (None, None)
    assert (ended.model, ended.tokens) == told
