"""An effect goes out under the running operation's key and the worker's epoch, again and again until it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import httpx
import pytest
from pydantic_ai_dapr import Operation
from pydantic_ai_dapr.context import operation_scope
from refund_desk.effects import ATTEMPTS, EffectRefusedError, EffectsConfig, HttpEffects, MemoryEffects
from refund_desk.payments.app import build_app
from refund_desk.payments.ledger import Ledger
from refund_desk.payments.rules import decide

pytestmark = pytest.mark.unit

OPERATION = Operation(run_id="run-1", instance_id="run-1-again", ordinal=7, kind="tool", name="note", attempt=2)
NOTE = {"text": "a note"}
Handler = Callable[[httpx.Request], httpx.Response]


class Service:
    """Answers as it is told, and keeps what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers, self.requests = list(answers), list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def applied(kind: str = "notes") -> httpx.Response:
    return httpx.Response(200, json={"outcome": "applied", "result": {"note_id": "nt-1"}})


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    taken: list[float] = []

    async def sleep(seconds: float) -> None:
        taken.append(seconds)

    monkeypatch.setattr("refund_desk.effects.asyncio.sleep", sleep)
    return taken


def effects_over(transport: httpx.AsyncBaseTransport, monkeypatch: pytest.MonkeyPatch) -> HttpEffects:
    effects = HttpEffects(EffectsConfig("https://payments", Path("ca"), Path("token"), "b", 5, "worker-2"))
    client = httpx.AsyncClient(base_url="https://payments", transport=transport)
    monkeypatch.setattr(effects, "_client", client)
    return effects


def apply(service: Handler, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    async def run() -> dict[str, object]:
        effects = effects_over(httpx.MockTransport(service), monkeypatch)
        with operation_scope(OPERATION):
            return dict(await effects.apply("notes", dict(NOTE)))

    return asyncio.run(run())


def test_an_effect_carries_the_operation_s_key_and_who_acts_in_which_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(applied())
    assert apply(service, monkeypatch) == {"note_id": "nt-1"}
    (request,) = service.requests
    assert str(request.url) == "https://payments/notes"
    sent = {name: request.headers[name] for name in request.headers if name.startswith(("idempotency", "holdfast"))}
    assert sent == {
        "idempotency-key": "run-1:7",
        "holdfast-run": "run-1",
        "holdfast-region": "b",
        "holdfast-epoch": "5",
        "holdfast-worker": "worker-2",
        "holdfast-attempt": "2",
    }


@pytest.mark.parametrize(
    "failure",
    [
        httpx.Response(500),
        httpx.Response(503),
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("closed in the middle of an answer"),
    ],
    ids=str,
)
def test_what_was_not_answered_is_sent_again_unchanged(
    failure: httpx.Response | Exception, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(failure, failure, applied())
    assert apply(service, monkeypatch) == {"note_id": "nt-1"}
    assert len(service.requests) == 3
    assert len({(request.headers["idempotency-key"], request.content) for request in service.requests}) == 1
    assert pauses == pytest.approx([0.1, 0.2])


def test_after_some_seconds_without_an_answer_the_operation_fails_in_a_way_that_may_pass(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(httpx.ConnectError("refused"))
    with pytest.raises(ConnectionError, match=f"payments did not answer notes after {ATTEMPTS} attempts: ConnectError"):
        apply(service, monkeypatch)
    assert len(service.requests) == ATTEMPTS
    assert 2.5 < sum(pauses) < 4


@pytest.mark.parametrize("status", [400, 401, 409, 413, 422])
def test_a_refusal_is_not_tried_again_and_says_why(
    status: int, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(httpx.Response(status, json={"title": "stale epoch"}))
    with pytest.raises(EffectRefusedError, match=r"payments refused notes: .*stale epoch"):
        apply(service, monkeypatch)
    assert len(service.requests) == 1
    assert pauses == []


def test_a_refusal_after_a_failure_is_final_too(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(httpx.Response(500), httpx.Response(409))
    with pytest.raises(EffectRefusedError):
        apply(service, monkeypatch)
    assert len(service.requests) == 2


def test_outside_of_a_durable_operation_there_is_no_key_and_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(applied())
    effects = effects_over(httpx.MockTransport(service), monkeypatch)
    with pytest.raises(RuntimeError, match="no durable operation"):
        asyncio.run(effects.apply("notes", dict(NOTE)))
    assert service.requests == []


class _AnswerIsLost(httpx.AsyncBaseTransport):
    """Delivers the first request, and loses the connection before its answer."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner, self._lost = inner, False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        if not self._lost:
            self._lost = True
            raise httpx.ReadError("connection reset")
        return response


def test_an_effect_whose_answer_was_lost_is_applied_once(
    tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")

    async def run() -> dict[str, object]:
        service = httpx.ASGITransport(build_app(ledger, "token", "control"))
        effects = effects_over(_AnswerIsLost(service), monkeypatch)
        cast("httpx.AsyncClient", effects._client).headers["Authorization"] = "Bearer token"
        with operation_scope(OPERATION):
            return dict(await effects.apply("notes", dict(NOTE)))

    assert asyncio.run(run()) == decide("notes", dict(NOTE))
    assert [entry.outcome for entry in ledger.entries()] == ["applied", "duplicate"]
    ledger.close()


def test_effects_in_memory_answer_as_the_service_does() -> None:
    effects = MemoryEffects()
    assert asyncio.run(effects.apply("notes", dict(NOTE))) == decide("notes", dict(NOTE))
    assert effects.applied == [("notes", NOTE)]
