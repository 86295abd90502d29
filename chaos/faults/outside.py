"""Faults of the world outside both regions: a model's provider in trouble, replies of payments that are lost.

The provider is simulated (app/refund_desk/provider); the agent reaches it over HTTPS with its real client.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from pydantic import JsonValue

from chaos.faults.target import Ability, Moment, NotInjectedError, NotLiftedError, Place, Struck, Target

MET_SECONDS = 20.0
POLL_SECONDS = 0.05
BOTH = ("first", "second")


@dataclass(frozen=True)
class ModelTrouble:
    """Providers answer requests with trouble, at least `met` of them before it counts as injected.

    `seconds` is the Retry-After, or the delay; with `requests` it ends by itself after so many.
    """

    name: str
    does: str
    trouble: str
    seconds: float = 0.0
    requests: int | None = None
    met: int = 12
    providers: tuple[str, ...] = BOTH
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"provider"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        before, at = self._answered(target), time.time()
        condition: dict[str, JsonValue] = {"trouble": self.trouble, "seconds": self.seconds, "requests": self.requests}
        for provider in self.providers:
            target.control("provider", "PUT", f"/control/{provider}", condition)
        met = _until(lambda: self._answered(target) - before, self.met)
        others = {name: _counts(target)[name].get("well", 0) for name in BOTH if name not in self.providers}
        evidence: dict[str, JsonValue] = {"trouble": self.trouble, "answered-so": met, "simulated": True}
        return Struck(at, evidence | {f"{name}-answered": count for name, count in others.items()}, met >= self.met)

    def lift(self, target: Target, place: Place) -> None:
        for provider in BOTH:
            target.control("provider", "DELETE", f"/control/{provider}")
        seen = cast("dict[str, dict[str, JsonValue]]", target.control("provider", "GET", "/control/"))
        if left := [name for name, one in seen.items() if one["condition"] is not None]:
            raise NotLiftedError(f"the providers {', '.join(left)} are still in trouble")

    def _answered(self, target: Target) -> int:
        counts = _counts(target)
        return sum(counts[name].get(self.trouble, 0) for name in self.providers)


@dataclass(frozen=True)
class LoseReplies:
    """Payments applies effects, and so many of its replies are lost."""

    replies: int = 10
    name: str = "lose-replies"
    does: str = "Payments applies effects, and the connection breaks before it has replied"
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"replies"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        before, at = _lost(target), time.time()
        target.control("payments", "PUT", "/control/replies", {"to_lose": self.replies})
        lost = _until(lambda: _lost(target) - before, self.replies)
        return Struck(at, {"replies-lost": lost}, lost >= self.replies)

    def lift(self, target: Target, place: Place) -> None:
        target.control("payments", "PUT", "/control/replies", {"to_lose": 0})


def _until(count: Callable[[], int], enough: int) -> int:
    """The count when it is enough, or at the deadline."""
    deadline = time.monotonic() + MET_SECONDS
    while (seen := count()) < enough and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return seen


def _counts(target: Target) -> dict[str, dict[str, int]]:
    seen = cast("dict[str, dict[str, dict[str, int]]]", target.control("provider", "GET", "/control/"))
    return {name: one["answered"] for name, one in seen.items()}


def _lost(target: Target) -> int:
    seen = target.control("payments", "GET", "/control/replies")
    if not isinstance(seen, dict) or not isinstance(lost := seen.get("lost"), int):
        raise NotInjectedError(f"payments does not say how many replies were lost, but {seen!r}")
    return lost
