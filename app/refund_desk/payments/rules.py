"""What each effect answers: a function of the payload, so that the same effect always has the same result."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import Literal

from pydantic import JsonValue

EffectKind = Literal["refunds", "approvals", "notes", "notifications"]
APPROVED_UP_TO = Decimal(400)


def payload_digest(payload: dict[str, JsonValue]) -> str:
    """Equal exactly when two payloads are equal."""
    return sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()


def decide(kind: EffectKind, payload: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The answer to an effect. A supervisor approves amounts up to `APPROVED_UP_TO`.

    Raises ValueError, which names what is wrong, for an approval without an amount.
    """
    name = payload_digest(payload)[:12]
    match kind:
        case "refunds":
            return {"refund_id": f"rf-{name}"}
        case "approvals":
            return {"approved": _amount(payload) <= APPROVED_UP_TO}
        case "notes":
            return {"note_id": f"nt-{name}"}
        case "notifications":
            return {"notification_id": f"ms-{name}"}


def _amount(payload: dict[str, JsonValue]) -> Decimal:
    given = payload.get("amount")
    try:
        amount = Decimal(str(given))
    except InvalidOperation:
        amount = Decimal("nan")
    if not amount.is_finite():
        raise ValueError(f"amount: {given!r} is not an amount of money")
    return amount
