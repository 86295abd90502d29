"""The simulated providers answer the desk's real OpenAI client by the desk's script, and behave as the bench says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import httpx2
import pytest
from fastapi.testclient import TestClient
from pydantic_ai import AgentRunResult
from pydantic_ai.exceptions import FallbackExceptionGroup, ModelAPIError, ModelHTTPError
from pydantic_ai.messages import ModelResponse, ToolReturnPart
from refund_desk import hosted, oracle
from refund_desk.agent import build_agent
from refund_desk.effects import MemoryEffects
from refund_desk.model import PROVIDED, provided_model, resolve_model
from refund_desk.provider.app import MAX_BODY_BYTES, build_app
from refund_desk.provider.conditions import Condition, Conditions, Trouble
from refund_desk.supervisor import decided
from refund_desk.ticket import Decision, Ticket
from refund_desk.tickets import bundled_tickets, read_tickets

pytestmark = pytest.mark.unit

TICKETS = read_tickets(bundled_tickets()).tickets
KEY, CONTROL = "the-key", "the-control-token"
QUESTION = {"model": "desk-first", "messages": [{"role": "user", "content": "Ticket: T-1\n\nORD-10001 is broken"}]}
Found = TypeVar("Found")


@pytest.fixture
def conditions() -> Conditions:
    return Conditions()


@pytest.fixture
def client(conditions: Conditions) -> Iterator[TestClient]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with TestClient(build_app(conditions, KEY, CONTROL), raise_server_exceptions=False, headers=headers) as client:
        yield client


@pytest.fixture
def control(conditions: Conditions) -> Iterator[TestClient]:
    headers = {"Authorization": f"Bearer {CONTROL}"}
    with TestClient(build_app(conditions, KEY, CONTROL), raise_server_exceptions=False, headers=headers) as client:
        yield client


async def run_of(conditions: Conditions, ticket: Ticket, *, released: bool = False) -> AgentRunResult[Decision]:
    transport = httpx2.ASGITransport(build_app(conditions, KEY, CONTROL), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, timeout=5) as http:
        agent = build_agent(provided_model(http, "http://provider", KEY), MemoryEffects(), decided(released))
        return await agent.run(hosted.prompt(ticket), deps=hosted.deps(ticket))


def played(coroutine: Coroutine[Any, Any, Found]) -> Found:
    return asyncio.run(coroutine)


@pytest.mark.parametrize("hold_seconds", [None, 60.0])
@pytest.mark.parametrize("released", [False, True])
def test_a_run_with_the_provider_decides_what_the_oracle_decides(hold_seconds: float | None, released: bool) -> None:
    for ticket in TICKETS[::6]:
        held = ticket.model_copy(update={"hold_seconds": hold_seconds})
        found = played(run_of(Conditions(), held, released=released)).output
        assert found == played(oracle.decide(held, released=released))
        assert hold_seconds is None or released or found.outcome == "escalated"


@pytest.mark.parametrize("trouble", ["refusing", "failing", "garbled"])
def test_where_the_first_provider_fails_the_second_is_asked(conditions: Conditions, trouble: Trouble) -> None:
    conditions.set("first", Condition(trouble=trouble, requests=2))
    assert played(run_of(conditions, TICKETS[0])).output == played(oracle.decide(TICKETS[0]))
    answered = {name: provider.answered for name, provider in conditions.seen().items()}
    assert answered["first"][trouble] == 2
    assert answered["second"] == {"well": 2}


@pytest.mark.parametrize(("trouble", "status"), [("refusing", 429), ("failing", 503)])
def test_where_every_provider_refuses_the_request_fails_with_each_reason(
    conditions: Conditions, trouble: Trouble, status: int
) -> None:
    conditions.set("first", Condition(trouble=trouble, seconds=3))
    conditions.set("second", Condition(trouble=trouble, seconds=2))
    with pytest.raises(FallbackExceptionGroup) as raised:
        played(run_of(conditions, TICKETS[0]))
    errors = [error for error in raised.value.exceptions if isinstance(error, ModelHTTPError)]
    assert [error.status_code for error in errors] == [status, status]
    after = [(error.headers or {}).get("retry-after") for error in errors]
    assert after == (["3", "2"] if trouble == "refusing" else [None, None])


def test_an_answer_whose_json_ends_in_the_middle_is_an_error_of_the_api(conditions: Conditions) -> None:
    for name in ("first", "second"):
        conditions.set(name, Condition(trouble="garbled"))
    with pytest.raises(FallbackExceptionGroup) as raised:
        played(run_of(conditions, TICKETS[0]))
    assert all(isinstance(error, ModelAPIError) for error in raised.value.exceptions)


def test_malformed_arguments_are_told_to_the_model_which_calls_again(conditions: Conditions) -> None:
    conditions.set("first", Condition(trouble="malformed", requests=1))
    result = played(run_of(conditions, TICKETS[0]))
    assert result.output == played(oracle.decide(TICKETS[0]))
    parts = [part for message in result.all_messages() for part in message.parts if isinstance(part, ToolReturnPart)]
    assert [part.outcome for part in parts[:2]] == ["retried", "retried"]
    calls = [
        call.tool_call_id for one in result.all_messages() if isinstance(one, ModelResponse) for call in one.tool_calls
    ]
    assert len(calls) == len(set(calls))


def test_a_condition_ends_after_its_requests_or_when_it_is_lifted(client: TestClient, control: TestClient) -> None:
    def ask() -> int:
        return client.post("/first/v1/chat/completions", json=QUESTION).status_code

    assert control.put("/control/first", json={"trouble": "failing", "requests": 2}).is_success
    assert [ask(), ask(), ask()] == [503, 503, 200]
    assert control.put("/control/first", json={"trouble": "failing"}).is_success
    assert ask() == 503
    assert control.delete("/control/first").status_code == 204
    assert ask() == 200
    assert control.get("/control/").json() == {
        "first": {"condition": None, "answered": {"failing": 3, "well": 2}},
        "second": {"condition": None, "answered": {}},
    }


@pytest.mark.parametrize(
    "act",
    [
        lambda client: client.post("/first/v1/chat/completions", json=QUESTION, headers={"Authorization": ""}),
        lambda client: client.post(
            "/first/v1/chat/completions", json=QUESTION, headers={"Authorization": f"Bearer {CONTROL}"}
        ),
        lambda client: client.put("/control/first", json={"trouble": "failing"}),
        lambda client: client.delete("/control/first"),
        lambda client: client.get("/control/"),
    ],
)
def test_who_may_ask_may_not_control_and_who_controls_may_not_ask(
    client: TestClient, conditions: Conditions, act: Callable[[TestClient], httpx2.Response]
) -> None:
    assert act(client).status_code == 401
    assert all(provider.condition is None for provider in conditions.seen().values())


@pytest.mark.parametrize(
    "condition",
    [
        {"trouble": "odd"},
        {"trouble": "slow", "seconds": -1},
        {"trouble": "slow", "seconds": 601},
        {"requests": 1},
        {"trouble": "slow", "requests": 0},
        {"trouble": "slow", "other": 1},
    ],
)
def test_a_condition_that_makes_no_sense_is_refused(
    control: TestClient, conditions: Conditions, condition: dict[str, object]
) -> None:
    assert control.put("/control/first", json=condition).status_code == 422
    assert control.put("/control/third", json={"trouble": "slow"}).status_code == 422
    assert conditions.seen()["first"].condition is None


@pytest.mark.parametrize(
    "question",
    [
        {"model": "x", "messages": []},
        {"model": "x", "messages": [{"role": "system", "content": "be brief"}]},
        QUESTION | {"stream": True},
        {"messages": []},
    ],
)
def test_a_question_that_is_none_is_refused(client: TestClient, question: dict[str, object]) -> None:
    assert client.post("/first/v1/chat/completions", json=question).status_code == 422


def test_a_question_over_the_limit_is_refused(client: TestClient) -> None:
    long = {"model": "x", "messages": [{"role": "user", "content": "x" * MAX_BODY_BYTES}]}
    assert client.post("/first/v1/chat/completions", json=long).status_code == 413


def test_health_needs_no_token(client: TestClient) -> None:
    assert client.get("/healthz", headers={"Authorization": ""}).json() == {"status": "ok"}


def test_the_provided_model_can_be_made_without_a_provider_for_a_replay() -> None:
    assert resolve_model(PROVIDED, 0.0).model_name == "fallback:desk-first,desk-second"
