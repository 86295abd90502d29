"""A model that needs no key and no network: it reads the ticket and the tools' answers, and decides by rules.

It stands where a language model would, so that a deployment can be tried and tested anywhere. Its answers are a
function of the messages alone.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from pydantic import TypeAdapter
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, infer_model
from pydantic_ai.models.function import AgentInfo, FunctionModel

from refund_desk.catalogue import Order, Quote
from refund_desk.ticket import Reason

DETERMINISTIC = "refund_desk:deterministic"

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


def resolve_model(name: str, latency_seconds: float) -> Model:
    """The model of that name: `refund_desk:deterministic`, or any name that PydanticAI knows."""
    return deterministic_model(latency_seconds) if name == DETERMINISTIC else infer_model(name)


def deterministic_model(latency_seconds: float = 0.0) -> Model:
    """The rule-based model; each request takes `latency_seconds`, as a real one would take time."""

    async def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        await asyncio.sleep(latency_seconds)
        return ModelResponse(parts=list(_next_calls(messages, info.output_tools[0].name)))

    return FunctionModel(respond, model_name="deterministic")


def read_reason(text: str) -> Reason:
    """The reason that a ticket's words give."""
    lowered = text.lower()
    for reason, words in _REASONS:
        if re.search(words, lowered):
            return reason
    return "other"


def _next_calls(messages: Sequence[ModelMessage], output_tool: str) -> Sequence[ToolCallPart]:
    parts = [part for message in messages if isinstance(message, ModelRequest) for part in message.parts]
    prompt = next(str(part.content) for part in parts if isinstance(part, UserPromptPart))
    answers = {part.tool_name: part for part in parts if isinstance(part, ToolReturnPart)}
    found = _ORDER.search(prompt)
    order_id = found.group(1) if found else "unknown"
    reason = read_reason(prompt)

    def call(tool: str, **arguments: object) -> list[ToolCallPart]:
        return [ToolCallPart(tool, arguments, tool_call_id=f"call-{len(answers)}-{tool}")]

    if "lookup_order" not in answers:
        return call("lookup_order", order_id=order_id) + call("customer_history")
    if "lookup_policy" not in answers:
        return call("lookup_policy", reason=reason)
    if "quote_refund" not in answers:
        return call("quote_refund", order_id=order_id, reason=reason)

    order = _order_or_none.validate_python(_content(answers["lookup_order"]))
    quote = Quote.model_validate(_content(answers["quote_refund"]))
    approval = answers.get("request_approval")
    if quote.needs_approval and approval is None:
        return call("request_approval", order_id=order_id, amount=str(quote.amount), why=quote.why)
    if not quote.needs_approval and "add_note" not in answers:
        return call("add_note", text=f"{reason}: {quote.why}")

    rejected = approval is not None and approval.content == "rejected"
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
        refund_id=str(answers["issue_refund"].content) if refund else None,
        explanation=quote.why,
    )


def _content(part: ToolReturnPart) -> object:
    """A tool's answer as plain data, whether it is still an object or was restored from JSON."""
    return part.model_response_object().get("return_value", part.model_response_object()) if part.content else None


def _message(refund: bool, rejected: bool, quote: Quote) -> str:
    if refund:
        return f"We refund {quote.amount}: {quote.why}."
    if rejected:
        return "A colleague looks at your case and writes to you within two days."
    return f"We can't refund this order: {quote.why}."
