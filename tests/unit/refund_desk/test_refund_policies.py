"""What the shop's rules allow for an order."""

from __future__ import annotations

from decimal import Decimal
from typing import get_args

import pytest
from refund_desk import catalogue
from refund_desk.catalogue import Order
from refund_desk.ticket import Reason

pytestmark = pytest.mark.unit


def an_order(**changes: object) -> Order:
    plain = {"order_id": "ORD-1", "customer": "Ada", "item": "mug", "price": "100.00", "currency": "EUR"}
    return Order.model_validate(plain | {"status": "delivered", "days": 10} | changes)


def test_every_reason_has_a_policy() -> None:
    for reason in get_args(Reason):
        policy = catalogue.policy(reason)
        assert policy.reason == reason
        assert 0 < policy.percent <= 100


def test_the_bundled_orders_are_read_once_and_kept_by_id() -> None:
    orders = catalogue.orders()
    assert orders is catalogue.orders()
    assert all(order.order_id == key for key, order in orders.items())


@pytest.mark.parametrize(
    ("order", "customer", "why"),
    [
        (None, "Ada", "not known"),
        (an_order(), "Bruno", "another customer"),
        (an_order(status="cancelled"), "Ada", "cancelled"),
        (an_order(days=61), "Ada", "61 days are past the 60 days"),
    ],
)
def test_nothing_is_allowed_where_the_order_gives_no_claim(order: Order | None, customer: str, why: str) -> None:
    quote = catalogue.quote(order, customer, catalogue.policy("damaged"))
    assert (quote.eligible, quote.amount, quote.needs_approval) == (False, 0, False)
    assert why in quote.why


def test_the_last_day_of_the_window_still_counts() -> None:
    assert catalogue.quote(an_order(days=60), "Ada", catalogue.policy("damaged")).eligible


def test_the_policy_sets_the_share_of_the_price_in_whole_cents() -> None:
    quote = catalogue.quote(an_order(price="33.33"), "Ada", catalogue.policy("late"))
    assert quote.amount == Decimal("6.67")


@pytest.mark.parametrize(("price", "needs_approval"), [("150.00", False), ("150.01", True)])
def test_only_an_amount_over_the_limit_needs_approval(price: str, needs_approval: bool) -> None:
    assert catalogue.quote(an_order(price=price), "Ada", catalogue.policy("damaged")).needs_approval is needs_approval
