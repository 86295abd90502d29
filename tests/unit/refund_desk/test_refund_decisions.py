"""With the deterministic model the desk decides every ticket by the rules, in enough steps to be worth interrupting."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
from pydantic import JsonValue
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse, ToolCallPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.tools import ToolDefinition
from refund_desk import catalogue, hosted, oracle
from refund_desk.agent import build_agent
from refund_desk.effects import MemoryEffects
from refund_desk.model import DETERMINISTIC, deterministic_model, resolve_model
from refund_desk.payments.rules import EffectKind
from refund_desk.script import read_reason
from refund_desk.supervisor import decided
from refund_desk.ticket import Decision, Reason, Ticket
from refund_desk.tickets import bundled_tickets, read_tickets

pytestmark = pytest.mark.unit

TICKETS = read_tickets(bundled_tickets()).tickets
LEAST_MODEL_REQUESTS = 6


@dataclass(frozen=True)
class Run:
    ticket: Ticket
    decision: Decision
    effects: Sequence[tuple[EffectKind, dict[str, JsonValue]]]
    messages: Sequence[ModelMessage]

    @property
    def model_requests(self) -> int:
        return sum(isinstance(message, ModelResponse) for message in self.messages)

    def payload(self, kind: EffectKind) -> dict[str, JsonValue]:
        (payload,) = [payload for applied, payload in self.effects if applied == kind]
        return payload


async def run_of(ticket: Ticket, *, released: bool = False) -> Run:
    effects = MemoryEffects()
    agent = build_agent(deterministic_model(), effects, decided(released))
    result = await agent.run(hosted.prompt(ticket), deps=hosted.deps(ticket))
    return Run(ticket, result.output, effects.applied, result.all_messages())


@cache
def bundled_runs() -> tuple[Run, ...]:
    async def all_runs() -> list[Run]:
        return [await run_of(ticket) for ticket in TICKETS]

    return tuple(asyncio.run(all_runs()))


def decide(body: str, customer: str, ticket_id: str = "T-1") -> Run:
    return asyncio.run(run_of(Ticket(ticket_id=ticket_id, customer=customer, body=body)))


def order_of(ticket: Ticket) -> catalogue.Order | None:
    return next((order for key, order in catalogue.orders().items() if key in ticket.as_prompt()), None)


def test_every_bundled_ticket_takes_at_least_six_model_requests() -> None:
    few = {
        run.ticket.ticket_id: run.model_requests for run in bundled_runs() if run.model_requests < LEAST_MODEL_REQUESTS
    }
    assert few == {}


def test_the_bundled_tickets_bring_every_outcome_and_every_reason() -> None:
    outcomes = Counter(run.decision.outcome for run in bundled_runs())
    assert set(outcomes) == set(get_args(Decision.model_fields["outcome"].annotation))
    assert {run.decision.reason for run in bundled_runs()} == set(get_args(Reason))


def test_a_refund_is_paid_once_in_the_order_s_currency_and_never_over_its_price() -> None:
    for run in bundled_runs():
        refunds = [payload for kind, payload in run.effects if kind == "refunds"]
        if run.decision.outcome != "refunded":
            assert (refunds, run.decision.amount, run.decision.refund_id) == ([], 0, None)
            continue
        order = order_of(run.ticket)
        assert order is not None
        assert run.decision.refund_id is not None
        assert 0 < run.decision.amount <= order.price
        assert run.payload("refunds") == {
            "ticket_id": run.ticket.ticket_id,
            "order_id": order.order_id,
            "amount": str(run.decision.amount),
            "currency": order.currency,
        }


def test_every_customer_is_told_exactly_once() -> None:
    for run in bundled_runs():
        told = run.payload("notifications")
        assert (told["ticket_id"], told["customer"]) == (run.ticket.ticket_id, run.ticket.customer)


def test_a_supervisor_is_asked_where_the_quote_needs_it_and_a_note_is_left_elsewhere() -> None:
    for run in bundled_runs():
        kinds = Counter(kind for kind, _ in run.effects)
        assert kinds["approvals"] + kinds["notes"] == 1
        if run.decision.outcome == "escalated":
            assert kinds["approvals"] == 1


def test_two_effects_of_one_run_are_never_the_same() -> None:
    for run in bundled_runs():
        kinds = [kind for kind, _ in run.effects]
        assert len(kinds) == len(set(kinds))


def test_the_same_ticket_is_decided_the_same_way_again() -> None:
    async def again() -> list[Run]:
        return [await run_of(ticket) for ticket in TICKETS[:12]]

    for before, after in zip(bundled_runs(), asyncio.run(again()), strict=False):
        assert (after.decision, after.effects) == (before.decision, before.effects)


def an_order_for(reason: Reason, **wanted: object) -> catalogue.Order:
    """A bundled order on which the policy for `reason` gives what is wanted of the quote."""
    for order in catalogue.orders().values():
        quote = catalogue.quote(order, order.customer, catalogue.policy(reason))
        if all(getattr(quote, name) == value for name, value in wanted.items()):
            return order
    raise AssertionError(f"no bundled order gives {wanted} for {reason}")


def test_a_claim_within_the_limit_is_refunded() -> None:
    order = an_order_for("damaged", eligible=True, needs_approval=False)
    run = decide(f"{order.order_id} arrived broken", order.customer)
    assert (run.decision.outcome, run.decision.reason) == ("refunded", "damaged")
    assert run.decision.amount == order.price


def test_a_claim_of_somebody_else_is_declined() -> None:
    order = an_order_for("damaged", eligible=True, needs_approval=False)
    run = decide(f"{order.order_id} arrived broken", "somebody else")
    assert run.decision.outcome == "declined"
    assert "another customer" in run.decision.explanation


def test_a_ticket_without_an_order_is_asked_for_details() -> None:
    assert decide("my mug is broken", "Ada").decision.outcome == "needs-details"
    assert decide("my mug of ORD-99999999 is broken", "Ada").decision.outcome == "needs-details"


def test_an_amount_over_the_supervisor_s_own_limit_is_escalated() -> None:
    order = next(
        order
        for order in catalogue.orders().values()
        if order.price > 400 and order.status == "delivered" and order.days <= 60
    )
    run = decide(f"{order.order_id} arrived broken", order.customer)
    assert run.decision.outcome == "escalated"
    assert "colleague" in str(run.payload("notifications")["message"])


def test_a_large_amount_that_the_supervisor_approves_is_refunded() -> None:
    order = next(
        order
        for order in catalogue.orders().values()
        if 150 < order.price <= 400 and order.status == "delivered" and order.days <= 60
    )
    run = decide(f"{order.order_id} arrived broken", order.customer)
    assert run.decision.outcome == "refunded"
    assert run.payload("approvals")["amount"] == str(order.price)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("You charged me twice", "duplicate-charge"),
        ("I got the WRONG one, and it is broken", "wrong-item"),
        ("Das Glas ist kaputt", "damaged"),
        ("le produit est cassé", "damaged"),
        ("Where is my parcel?", "late"),
        ("it doesn't fit", "changed-mind"),
        ("hello", "other"),
    ],
)
def test_the_reason_is_read_from_the_customer_s_words(text: str, reason: Reason) -> None:
    assert read_reason(text) == reason


def test_the_model_answers_the_same_from_messages_that_went_through_json() -> None:
    """A resumed run restores its messages from the workflow's history."""
    ask = deterministic_model()
    assert isinstance(ask, FunctionModel)
    assert ask.function is not None
    info = AgentInfo(
        function_tools=[],
        allow_text_output=False,
        output_tools=[ToolDefinition(name="final_result")],
        model_settings=None,
        model_request_parameters=ModelRequestParameters(),
        instructions=None,
    )
    for run in bundled_runs():
        for number, message in enumerate(run.messages):
            if not isinstance(message, ModelResponse):
                continue
            before = list(run.messages[:number])
            restored = ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(before))
            answer = asyncio.run(ask.function(restored, info))  # type: ignore[arg-type]
            calls = [part for part in answer.parts if isinstance(part, ToolCallPart)]
            assert [(c.tool_name, c.args) for c in calls] == [
                (c.tool_name, c.args) for c in message.parts if isinstance(c, ToolCallPart)
            ]


def test_a_model_that_refunds_more_than_the_price_is_asked_again_and_nothing_is_paid() -> None:
    order = an_order_for("damaged", eligible=True, needs_approval=False)
    seen: list[str] = []

    def greedy(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.extend(str(part.content) for part in messages[-1].parts if "more than" in str(part.content))
        if not seen:
            amount = str(order.price + 1)
            call = ToolCallPart("issue_refund", {"order_id": order.order_id, "amount": amount, "currency": "EUR"})
        else:
            answer = {"outcome": "declined", "reason": "damaged", "amount": "0", "explanation": "-"}
            call = ToolCallPart(info.output_tools[0].name, answer)
        return ModelResponse(parts=[call])

    effects = MemoryEffects()
    ticket = Ticket(ticket_id="T-1", customer=order.customer, body="broken")
    agent = build_agent(FunctionModel(greedy), effects)
    asyncio.run(agent.run(hosted.prompt(ticket), deps=hosted.deps(ticket)))
    assert f"more than the price of order {order.order_id}" in seen[0]
    assert effects.applied == []


def test_the_model_takes_the_time_it_is_told_to() -> None:
    async def timed() -> float:
        model = resolve_model(DETERMINISTIC, 0.02)
        ticket = Ticket(ticket_id="T-1", customer="Ada", body="hello")
        started = asyncio.get_running_loop().time()
        await build_agent(model, MemoryEffects()).run(hosted.prompt(ticket), deps=hosted.deps(ticket))
        return asyncio.get_running_loop().time() - started

    assert asyncio.run(timed()) >= LEAST_MODEL_REQUESTS * 0.02


def test_another_model_is_looked_up_by_its_name() -> None:
    assert resolve_model("test", 0.0).model_name == "test"


def test_the_oracle_decides_as_a_run_does() -> None:
    for run in bundled_runs()[:12]:
        assert asyncio.run(oracle.decide(run.ticket)) == run.decision


def test_the_oracle_prints_one_decision_per_ticket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tickets.jsonl"
    path.write_text("\n".join(ticket.model_dump_json() for ticket in TICKETS[:3]) + "\n{malformed\n")
    assert oracle.main([str(path)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["ticket_id"] for line in lines] == [ticket.ticket_id for ticket in TICKETS[:3]]
    assert [Decision.model_validate(line["decision"]) for line in lines] == [run.decision for run in bundled_runs()[:3]]


def test_the_oracle_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert oracle.main([]) == 2
    assert "usage: " in capsys.readouterr().err


@pytest.mark.parametrize("released", [False, True])
def test_a_held_ticket_goes_on_as_ever_once_it_is_released_and_pays_nothing_otherwise(released: bool) -> None:
    for run in bundled_runs()[::9]:
        held = asyncio.run(run_of(run.ticket.model_copy(update={"hold_seconds": 60.0}), released=released))
        if released:
            assert (held.decision, held.effects) == (run.decision, run.effects)
        else:
            assert (held.decision.outcome, held.decision.amount) == ("escalated", 0)
            assert [kind for kind, _ in held.effects] == ["notes", "notifications"]
