"""The refund desk's agent: its instructions, tools and typed output."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue
from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.models import Model
from pydantic_ai_dapr import DaprDurability

from refund_desk import catalogue
from refund_desk.catalogue import Order, Policy, Quote
from refund_desk.effects import Effects
from refund_desk.supervisor import WaitForSupervisor
from refund_desk.ticket import RELEASED, Decision, DeskDeps, Money, Reason

INSTRUCTIONS = """\
You decide refund tickets of an online shop. Look up the order and the customer's history, then the policy for
the customer's reason, then quote the refund. Where the ticket is held, wait for a supervisor. Where the quote
needs approval, request it; otherwise leave a note with your reasoning. Refund what was quoted and nothing else,
notify the customer, and return the decision."""


def build_agent(
    model: Model | str, effects: Effects, supervisor: AbstractCapability[DeskDeps] | None = None
) -> Agent[DeskDeps, Decision]:
    """The refund desk on `model`; what it does to the world goes through `effects`.

    `supervisor` decides held tickets; by default a person does, while the run waits.
    """
    agent = Agent(
        model,
        name="refund-desk",
        deps_type=DeskDeps,
        output_type=Decision,
        instructions=INSTRUCTIONS,
        retries=2,
        defer_model_check=True,
        capabilities=[supervisor or WaitForSupervisor(), DaprDurability()],
    )

    @agent.tool_plain
    async def lookup_order(order_id: str) -> Order | None:  # pyright: ignore[reportUnusedFunction]
        """The order with this id, or nothing where it is not known."""
        return catalogue.orders().get(order_id)

    @agent.tool
    def customer_history(ctx: RunContext[DeskDeps]) -> list[str]:  # pyright: ignore[reportUnusedFunction]
        """The ids of the customer's orders."""
        return sorted(o.order_id for o in catalogue.orders().values() if o.customer == ctx.deps.customer)

    @agent.tool_plain
    def lookup_policy(reason: Reason) -> Policy:  # pyright: ignore[reportUnusedFunction]
        """The refund policy for a reason."""
        return catalogue.policy(reason)

    @agent.tool
    def quote_refund(ctx: RunContext[DeskDeps], order_id: str, reason: Reason) -> Quote:  # pyright: ignore[reportUnusedFunction]
        """What the policy allows for an order and a reason."""
        return catalogue.quote(catalogue.orders().get(order_id), ctx.deps.customer, catalogue.policy(reason))

    @agent.tool_plain(requires_approval=True)
    def await_supervisor(order_id: str, amount: Money) -> str:  # pyright: ignore[reportUnusedFunction]
        """Wait until a supervisor has released a held ticket."""
        return RELEASED

    @agent.tool
    async def request_approval(  # pyright: ignore[reportUnusedFunction]
        ctx: RunContext[DeskDeps], order_id: str, amount: Money, why: str
    ) -> Literal["approved", "rejected"]:
        """Ask a supervisor to approve an amount over the policy's limit."""
        payload: dict[str, JsonValue] = {
            "ticket_id": ctx.deps.ticket_id,
            "order_id": order_id,
            "amount": str(amount),
            "why": why,
        }
        answer = await effects.apply("approvals", payload)
        return "approved" if answer["approved"] else "rejected"

    @agent.tool
    async def add_note(ctx: RunContext[DeskDeps], text: str) -> str:  # pyright: ignore[reportUnusedFunction]
        """Leave an internal note on the ticket."""
        answer = await effects.apply("notes", {"ticket_id": ctx.deps.ticket_id, "text": text})
        return str(answer["note_id"])

    @agent.tool
    async def issue_refund(ctx: RunContext[DeskDeps], order_id: str, amount: Money, currency: str) -> str:  # pyright: ignore[reportUnusedFunction]
        """Pay money back, and return the refund's id."""
        order = catalogue.orders().get(order_id)
        if order is None or amount > order.price:
            raise ModelRetry(f"the amount {amount} is more than the price of order {order_id}")
        payload: dict[str, JsonValue] = {
            "ticket_id": ctx.deps.ticket_id,
            "order_id": order_id,
            "amount": str(amount),
            "currency": currency,
        }
        return str((await effects.apply("refunds", payload))["refund_id"])

    @agent.tool
    async def notify_customer(ctx: RunContext[DeskDeps], message: str) -> str:  # pyright: ignore[reportUnusedFunction]
        """Send the customer a message, and return its id."""
        payload: dict[str, JsonValue] = {
            "ticket_id": ctx.deps.ticket_id,
            "customer": ctx.deps.customer,
            "message": message,
        }
        return str((await effects.apply("notifications", payload))["notification_id"])

    return agent
