"""How each provider behaves at the moment, as the bench sets it, and what it has answered since."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from refund_desk.provider import PROVIDERS, ProviderName

Trouble = Literal["refusing", "failing", "hanging", "slow", "cut", "garbled", "malformed", "oversized"]
"""`refusing`: 429. `failing`: 503. `hanging`: no answer. `slow`: a late one. `cut`: the connection ends in the middle
of the answer. `garbled`: the answer ends in the middle of its JSON. `malformed`: a tool's arguments do.
`oversized`: it has `OVERSIZE` characters beside its tool calls."""
OVERSIZE = 5_000_000


class Condition(BaseModel):
    """Trouble for the next `requests` requests, or until it is lifted.

    `seconds` is the Retry-After of `refusing`, and the delay of `slow` and `hanging`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    trouble: Trouble
    seconds: Annotated[float, Field(ge=0, le=600)] = 0.0
    requests: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


class Provider(BaseModel):
    """One provider: its condition, and how many requests it has answered in which way."""

    condition: Condition | None
    answered: dict[str, int]


class Conditions:
    """The condition of every provider. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set: dict[ProviderName, Condition | None] = dict.fromkeys(PROVIDERS)
        self._answered: dict[ProviderName, Counter[str]] = {name: Counter() for name in PROVIDERS}

    def set(self, provider: ProviderName, condition: Condition | None) -> None:
        """Put a condition in force, or lift what is."""
        with self._lock:
            self._set[provider] = condition

    def next(self, provider: ProviderName) -> Condition | None:
        """The condition that the next request meets; it is counted."""
        with self._lock:
            condition = self._set[provider]
            if condition is not None and condition.requests is not None:
                left = condition.requests - 1
                self._set[provider] = condition.model_copy(update={"requests": left}) if left else None
            self._answered[provider][condition.trouble if condition else "well"] += 1
            return condition

    def seen(self) -> dict[ProviderName, Provider]:
        """Every provider as it is now."""
        with self._lock:
            return {
                name: Provider(condition=self._set[name], answered=dict(self._answered[name])) for name in PROVIDERS
            }
