"""Finds the highest rate at which the objectives hold: doubles it until they don't, then halves what lies between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from holdfast.client import NotAnsweredError, RunView

from loadtests.traffic.locusts import NotLoadedError
from loadtests.traffic.results import Capacity, Results, Step
from loadtests.traffic.shapes import PERIOD_SECONDS

__all__ = ["NEAR", "next_rate", "search", "settle"]

NEAR = 0.1
"""Rates that differ by this share need nothing between them."""
_SMALLEST = 1 / PERIOD_SECONDS
SETTLE_SECONDS, LOOK_SECONDS = 120.0, 0.5


def next_rate(steps: Sequence[Step], first: float, most: float) -> float | None:
    """The rate to try next, of at most `most`; None where the answer is near enough, or can't be found."""
    if not steps:
        return first
    found = Capacity(machine="", measured_at=0, seconds=0, warm_up=0, steps=list(steps))
    held, missed = found.holds_at, found.missed_at
    if missed is None:
        return min(2 * max(held or 0.0, first), most) if held is not None and held < most else None
    low = held or 0.0
    if missed - low <= max(NEAR * missed, _SMALLEST):
        return None
    between = round((low + missed) / 2 * PERIOD_SECONDS) / PERIOD_SECONDS
    return between if low < between < missed else None


def search(
    measure: Callable[[float], Results], first: float, most: float, most_steps: int, deadline: float
) -> Iterator[Step]:
    """Each step as soon as it is measured, until the answer is near enough, or the steps or the time are spent.

    `deadline` is one of `time.monotonic()`. A step that can't be measured ends the search, and says why.
    """
    steps: list[Step] = []
    while len(steps) < most_steps and time.monotonic() < deadline:
        rate = next_rate(steps, first, most)
        if rate is None:
            return
        try:
            step = Step(rate=rate, results=measure(rate))
        except NotLoadedError as error:
            step = Step(rate=rate, missing=str(error))
        steps.append(step)
        yield step
        if step.missing is not None:
            return


def settle(open_runs: Callable[[], Sequence[RunView]], seconds: float = SETTLE_SECONDS) -> None:
    """Return when no run is open: what one rate has left behind must not slow down the next. Raises NotLoadedError."""
    deadline, seen = time.monotonic() + seconds, "nothing"
    while time.monotonic() < deadline:
        try:
            left = open_runs()
        except NotAnsweredError as error:
            seen = str(error)
        else:
            if not left:
                return
            seen = f"{len(left)} open, {left[0].run_id} is one"
        time.sleep(LOOK_SECONDS)
    raise NotLoadedError(
        f"waited {seconds:g} s for every run to end; last seen: {seen}. See `holdfast runs --status open`"
    )
