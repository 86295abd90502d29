"""Orders, customers and refund policies: a small fixed shop, read from a bundled file."""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from refund_desk.ticket import Money, Reason


class Order(BaseModel):
    """One order. `days` counts from delivery, or from dispatch while it is in transit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    order_id: str
    customer: str
    item: str
    price: Money
    currency: str
    status: Literal["delivered", "in-transit", "cancelled"]
    days: int


class Policy(BaseModel):
    """How one reason is treated: within `window_days`, `percent` of the price; beyond `limit`, with approval."""

    model_config = ConfigDict(frozen=True)

    reason: Reason
    window_days: int
    percent: int
    limit: Money


class Quote(BaseModel):
    """What the policy allows for an order."""

    model_config = ConfigDict(frozen=True)

    eligible: bool
    amount: Money
    needs_approval: bool
    why: str


_POLICIES: dict[Reason, tuple[int, int, int]] = {
    "damaged": (60, 100, 150),
    "late": (45, 20, 100),
    "wrong-item": (60, 100, 200),
    "duplicate-charge": (365, 100, 300),
    "changed-mind": (14, 85, 80),
    "other": (14, 50, 50),
}


@cache
def orders() -> dict[str, Order]:
    """Every order, by id."""
    text = files("refund_desk").joinpath("data/orders.json").read_text(encoding="utf-8")
    return {order.order_id: order for order in TypeAdapter(list[Order]).validate_json(text)}


def policy(reason: Reason) -> Policy:
    """The policy for a reason."""
    window, percent, limit = _POLICIES[reason]
    return Policy(reason=reason, window_days=window, percent=percent, limit=Decimal(limit))


def quote(order: Order | None, customer: str, rule: Policy) -> Quote:
    """What `rule` allows for `order`; nothing for an unknown, cancelled or somebody else's order."""
    nothing = Decimal(0)
    if order is None:
        return Quote(eligible=False, amount=nothing, needs_approval=False, why="the order is not known")
    if order.customer != customer:
        return Quote(eligible=False, amount=nothing, needs_approval=False, why="the order belongs to another customer")
    if order.status == "cancelled":
        return Quote(
            eligible=False,
            amount=nothing,
            needs_approval=False,
            why="the order was cancelled and not charged",
        )
    if order.days > rule.window_days:
        why = f"{order.days} days are past the {rule.window_days} days of the policy for {rule.reason}"
        return Quote(eligible=False, amount=nothing, needs_approval=False, why=why)
    amount = (order.price * rule.percent / 100).quantize(Decimal("0.01"))
    why = f"{rule.percent} % of {order.price} {order.currency} for {rule.reason}"
    return Quote(eligible=True, amount=amount, needs_approval=amount > rule.limit, why=why)
