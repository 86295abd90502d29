"""What the deterministic model does next: a function of what it has in front of it, and of nothing else.

Both the model in the worker and the simulated provider answer by it, so that a run decides the same with either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue, TypeAdapter

from refund_desk.catalogue import Order, Quote
from refund_desk.ticket import HELD, RELEASED, Reason

# The first group with a word in the ticket wins; the words are those that customers of this shop write.
_REASONS: tuple[tuple[Reason, str], ...] = (
    ("duplicate-charge", r"twice|double|duplicate|doppelt|deux fois|dos veces|two charges"),
    ("wrong-item", r"wrong|different (colou?r|size|item)|instead of|falsch|mauvais|equivocad"),
    (
        "damaged",
        r"broke|crack|damag|defect|shatter|leak|stopped working|dead|kaputt|cass[ée]|roto|torn|scratch",
    ),
    (
        "late",
        r"late|still waiting|not arrived|hasn't arrived|never arrived|delay|where is|verspätet|retard|tarde",
    ),
    (
        "changed-mind",
        r"changed my mind|don't need|no longer need|too (big|small)|doesn't (fit|suit)|return it|gift",
    ),
)
_ORDER = re.compile(r"\b(ORD-\d{4,})\b")
_order_or_none = TypeAdapter(Order | None)


@dataclass(frozen=True)
class Seen:
    """The ticket, what each tool has answered, as plain data, and how many answers the model has given before."""

    prompt: str
    answers: Mapping[str, JsonValue]
    turn: int


@dataclass(frozen=True)
class Call:
    """A tool call. Its id is its own in the run."""

    call_id: str
    tool: str
    arguments: dict[str, JsonValue]


def read_reason(text: str) -> Reason:
    """The reason that a ticket's words give."""
    lowered = text.lower()
    for reason, words in _REASONS:
        if re.search(words, lowered):
            return reason
    return "other"


def next_calls(seen: Seen, output_tool: str) -> Sequence[Call]:
    """The tool calls that the model makes next; the decision is a call of `output_tool`."""
    answers = seen.answers
    found = _ORDER.search(seen.prompt)
    order_id = found.group(1) if found else "unknown"
    reason = read_reason(seen.prompt)

    def call(tool: str, **arguments: JsonValue) -> list[Call]:
        return [Call(f"call-{seen.turn}-{tool}", tool, arguments)]

    if "lookup_order" not in answers:
        return call("lookup_order", order_id=order_id) + call("customer_history")
    if "lookup_policy" not in answers:
        return call("lookup_policy", reason=reason)
    if "quote_refund" not in answers:
        return call("quote_refund", order_id=order_id, reason=reason)

    order = _order_or_none.validate_python(answers["lookup_order"])
    quote = Quote.model_validate(answers["quote_refund"])
    held = f"\n{HELD}" in seen.prompt
    if held and "await_supervisor" not in answers:
        return call("await_supervisor", order_id=order_id, amount=str(quote.amount))

    kept = held and answers["await_supervisor"] != RELEASED
    asks = quote.needs_approval and not kept
    if asks and "request_approval" not in answers:
        return call("request_approval", order_id=order_id, amount=str(quote.amount), why=quote.why)
    if not asks and "add_note" not in answers:
        return call("add_note", text=f"{reason}: {quote.why}")

    rejected = kept or answers.get("request_approval") == "rejected"
    refund = quote.eligible and not rejected and order is not None
    if refund and order is not None and "issue_refund" not in answers:
        return call("issue_refund", order_id=order_id, amount=str(quote.amount), currency=order.currency)
    if "notify_customer" not in answers:
        return call("notify_customer", message=_message(refund, rejected, quote))

    outcome = "refunded" if refund else "escalated" if rejected else "needs-details" if order is None else "declined"
    return call(
        output_tool,
        outcome=outcome,
        reason=reason,
        amount=str(quote.amount) if refund else "0",
        refund_id=str(answers["issue_refund"]) if refund else None,
        explanation=quote.why,
    )


def _message(refund: bool, rejected: bool, quote: Quote) -> str:
    if refund:
        return f"We refund {quote.amount}: {quote.why}."
    if rejected:
        return "A colleague looks at your case and writes to you within two days."
    return f"We can't refund this order: {quote.why}."
