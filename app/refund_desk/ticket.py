"""What goes into the desk, a `Ticket`, and what comes out, a `Decision`."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Reason = Literal["damaged", "late", "wrong-item", "duplicate-charge", "changed-mind", "other"]
Money = Annotated[Decimal, Field(ge=0, max_digits=9, decimal_places=2)]
HELD = "Held for a supervisor"
"""How the model reads that a ticket is held."""
RELEASED = "released"
"""What the desk is told once a supervisor has let a held ticket go on."""


class Ticket(BaseModel):
    """A customer's request, as it arrives. Unknown fields are refused.

    With `hold_seconds` nothing is refunded until a supervisor has released it; after so many seconds without a
    decision it is denied.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ticket_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    customer: Annotated[str, Field(min_length=1, max_length=200)]
    order_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] | None = None
    subject: Annotated[str, Field(max_length=300)] = ""
    body: Annotated[str, Field(min_length=1, max_length=20_000)]
    hold_seconds: Annotated[float, Field(gt=0, le=31 * 86_400)] | None = None

    def as_prompt(self) -> str:
        """The ticket as the model reads it."""
        order = f"Order: {self.order_id}\n" if self.order_id else ""
        held = f"{HELD}\n" if self.hold_seconds else ""
        about = f"{order}{held}Subject: {self.subject}\n\n{self.body}"
        return f"Ticket: {self.ticket_id}\nCustomer: {self.customer}\n{about}"


class Decision(BaseModel):
    """The desk's typed answer. `amount` is in the order's currency, 0 where nothing is refunded."""

    model_config = ConfigDict(frozen=True)

    outcome: Literal["refunded", "declined", "escalated", "needs-details"]
    reason: Reason
    amount: Money
    refund_id: str | None = None
    explanation: str


class DeskDeps(BaseModel):
    """What the tools know of the run besides their arguments."""

    model_config = ConfigDict(frozen=True)

    ticket_id: str
    customer: str
    hold_seconds: float | None = None
