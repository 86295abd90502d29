"""The shapes of a load: how many customers there are at each moment, and which of their runs wait for a supervisor.

A customer starts a run every ten seconds, whether or not earlier ones were answered: load doesn't wait for the loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["PERIOD_SECONDS", "SHAPES", "Moment", "Shape", "customers_for"]

PERIOD_SECONDS = 10.0
"""Between two starts of one customer."""
STEPS = 10
"""Of a ramp."""
BURST_TIMES, BURST_SECONDS = 5, 10.0
HELD_EVERY = 10
"""Of how many runs one waits for a supervisor."""


@dataclass(frozen=True)
class Moment:
    """`at` seconds of a load that lasts `seconds` and has at most `customers`; `moved_at`: another region is active."""

    customers: int
    seconds: float
    at: float
    moved_at: float | None = None


@dataclass(frozen=True)
class Shape:
    """`customers` at a moment. Of `held_every` runs one is held, and is released from `released_at` on."""

    what: str
    customers: Callable[[Moment], int]
    held_every: int = HELD_EVERY
    released_at: Callable[[float], float] = lambda seconds: 0.0


def customers_for(rate: float) -> int:
    """How many customers start so many runs a second. Raises ValueError where none or a part of one would."""
    exact = rate * PERIOD_SECONDS
    if not math.isfinite(exact) or round(exact) < 1 or not math.isclose(exact, round(exact), abs_tol=1e-6):
        raise ValueError(f"{rate:g} runs a second is no rate: name a multiple of {1 / PERIOD_SECONDS:g}")
    return round(exact)


def _ramp(now: Moment) -> int:
    step = min(STEPS, math.floor(STEPS * now.at / now.seconds) + 1)
    return math.ceil(now.customers * step / STEPS)


def _burst(now: Moment) -> int:
    half = now.seconds / 2
    begins = now.moved_at if now.moved_at is not None and now.moved_at < half else half
    return now.customers * (BURST_TIMES if begins <= now.at < begins + BURST_SECONDS else 1)


SHAPES = {
    "steady": Shape("the same rate all the time", lambda now: now.customers),
    "ramp": Shape(f"up to the rate in {STEPS} steps", _ramp),
    "burst": Shape(
        f"{BURST_TIMES} times the rate for {BURST_SECONDS:g} s: as soon as another region is active, else at half time",
        _burst,
    ),
    "herd": Shape(
        "every run waits for a supervisor, who lets all of them go on at half time; none is started from then on",
        lambda now: now.customers if now.at < now.seconds / 2 else 0,
        held_every=1,
        released_at=lambda seconds: seconds / 2,
    ),
}
