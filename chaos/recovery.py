"""Recovery time, split into its phases, and what was lost."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

from chaos.checks.acknowledged import losses
from chaos.history import AgentEvent, History

NOTHING_IS_LOST_BY = frozenset({"burst", "duplicate-starts", "deploy-next", "deploy-careless"})
"""Faults that take no process away for good: where another follows, the time of recovery counts from that one."""


class Recovery(BaseModel):
    """Seconds from the fault. A phase is None where its end was not seen.

    `detect`: the lease was released, or had run out; a planned switchover has none. `promote`: the database was
    primary. `activate`: sidecars and workers executed runs. `resume`: the first operation of a run that was accepted
    before the fault. `rto` is their sum. `moved`: each run of a crashed worker, to its first operation elsewhere.
    `rpo_events`: starts and operations that a client was told of, and that are lost; the oldest of them `rpo_seconds`
    before the fault; its model requests took `rpo_tokens`.
    """

    model_config = ConfigDict(frozen=True)

    detect: float | None = None
    promote: float | None = None
    activate: float | None = None
    resume: float | None = None
    rto: float | None = None
    moved: list[float] = Field(default_factory=list[float])
    rpo_events: int | None = None
    rpo_seconds: float | None = None
    rpo_tokens: int | None = None
    early_release: bool = False


def recovery(history: History) -> Recovery:
    """The recovery after the first fault that takes something away, from the recorded events and attempts."""
    faults = [one for one in history.faults if one.name not in NOTHING_IS_LOST_BY] or history.faults
    if not faults:
        return Recovery()
    first = min(faults, key=lambda fault: fault.at)
    at, moved = first.at, first.name
    open_runs = history.in_flight_at(at) or set()
    killed = {pid for fault in history.faults for pid in fault.killed}
    origin = {attempt.region for attempt in history.attempts or [] if attempt.at < at}
    resumed = [
        attempt.at
        for attempt in history.attempts or []
        if attempt.phase == "started"
        and attempt.at > at
        and attempt.run_id in open_runs
        and attempt.pid not in killed
        and (moved == "worker-crash" or attempt.region not in origin)
    ]
    began = min(resumed, default=None)
    lost = losses(history)
    rpo_seconds = max((at - loss.at for loss in lost or [] if loss.at < at), default=0.0)
    common = {
        "rto": _since(began, at),
        "moved": _moved(history, open_runs, at, killed) if moved == "worker-crash" else [],
        "rpo_events": len(lost) if lost is not None else None,
        "rpo_seconds": round(rpo_seconds, 3) if lost is not None else None,
        "rpo_tokens": sum(loss.tokens for loss in lost) if lost is not None else None,
    }
    if moved == "worker-crash":
        return Recovery.model_validate(common)
    released = _first(history, at, lambda event: event.member("decision") == "released")
    early = released is not None
    promoted = _first(history, at, lambda event: event.event == "promoted")
    if moved == "region-loss" and not early:
        # The lease ran out, and its new holder says so when it is primary: the two can't be told apart.
        released = promoted
    activated = _first(history, at, lambda event: event.event == "activated")
    return Recovery.model_validate(
        common
        | {
            "detect": _since(released, at),
            "promote": _since(promoted, released if released is not None else at),
            "activate": _since(activated, promoted),
            "resume": _since(began, activated),
            "early_release": early,
        }
    )


def _first(history: History, at: float, wanted: Callable[[AgentEvent], bool]) -> float | None:
    return min((event.at for event in history.events or [] if event.at > at and wanted(event)), default=None)


def _since(end: float | None, begin: float | None) -> float | None:
    return round(max(end - begin, 0.0), 3) if end is not None and begin is not None else None


def _moved(history: History, open_runs: set[str], at: float, killed: set[int]) -> list[float]:
    """Until each of the killed worker's runs had an operation executed elsewhere, in order."""
    orphans = {attempt.run_id for attempt in history.attempts or [] if attempt.pid in killed and attempt.at < at}
    firsts: dict[str, float] = {}
    for attempt in history.attempts or []:
        if attempt.at > at and attempt.pid not in killed and attempt.run_id in orphans & open_runs:
            firsts[attempt.run_id] = min(attempt.at, firsts.get(attempt.run_id, attempt.at))
    return sorted(round(first - at, 3) for first in firsts.values())
