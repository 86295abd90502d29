"""What a load's entries come to: how many, how long, and what went wrong, by kind."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from loadtests.traffic.entries import Entry, Name

__all__ = ["Figures", "figures", "quantile"]

SHOWN: tuple[Name, ...] = ("start", "complete", "approve", "list", "freshness")


class Figures(BaseModel):
    """One kind of entry. Seconds are of those that went well; `retries` are tries to start that had no answer."""

    model_config = ConfigDict(frozen=True)

    name: Name
    ok: int = 0
    failed: int = 0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    worst: float | None = None
    errors: dict[str, int] = Field(default_factory=dict[str, int])


def figures(entries: Sequence[Entry]) -> list[Figures]:
    """The figures of each kind, in the order in which a run meets them; then what was tried again, where any was."""
    found = [_of(name, entries) for name in SHOWN]
    retries = _of("retry", entries)
    return [*found, retries] if retries.failed else found


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of them don't exceed; None of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _of(name: Name, entries: Sequence[Entry]) -> Figures:
    own = [entry for entry in entries if entry.name == name]
    seconds = [entry.seconds for entry in own if entry.error is None]
    errors = Counter(entry.error for entry in own if entry.error is not None)
    return Figures(
        name=name,
        ok=len(seconds),
        failed=errors.total(),
        p50=quantile(seconds, 0.5),
        p95=quantile(seconds, 0.95),
        p99=quantile(seconds, 0.99),
        worst=max(seconds, default=None),
        errors=dict(errors.most_common()),
    )
