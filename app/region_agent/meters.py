"""What an agent's events amount to: how many there were, how runs ended, how long each phase of a failover took."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from pydantic import JsonValue

PHASES = ("detect", "promote", "activate", "resume")
"""From the other region's silence to its lease's end, to the promotion, to workers at work, to every open run woken."""
_WATCHED = ("reminders-lost", "sweep-failed", "transition-failed")
_STATUSES = ("completed", "failed", "terminated")
"""What alerts ask for is there from the beginning: Prometheus sees no growth in what was not there before."""
_RUN_SECONDS = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)
_CLOSING_SECONDS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class EventMeters:
    """Hears every event when it is recorded. Phases are those of the last activation, and none that it didn't have.

    A switchover has no silence, so it has no `detect`; where the lease's TTL decides, `detect` lasts until the
    promotion.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter("holdfast_agent_events", "What the agent did and saw", ["event"], registry=registry)
        self._ended = Counter("holdfast_runs_ended", "Runs that ended, by status", ["status"], registry=registry)
        self._seconds = Histogram(
            "holdfast_run_seconds", "From a start's acceptance to its end", buckets=_RUN_SECONDS, registry=registry
        )
        self._behind = Histogram(
            "holdfast_run_closing_seconds",
            "How long after its end a run was still listed as open",
            buckets=_CLOSING_SECONDS,
            registry=registry,
        )
        self._phase = Gauge(
            "holdfast_failover_phase_seconds", "Phases of the last activation", ["phase"], registry=registry
        )
        for event in _WATCHED:
            self._events.labels(event)
        for status in _STATUSES:
            self._ended.labels(status)
        self._silent = self._released = self._activated = 0.0

    def __call__(self, event: str, at: float, members: Mapping[str, JsonValue]) -> None:
        """Count one event, which happened `at` that time."""
        self._events.labels(event).inc()
        if event == "silence-began":
            self._silent, self._released = at, 0.0
        elif event == "silence-ended":
            self._silent = 0.0
        elif event == "early-release" and members.get("decision") == "released" and not self._released:
            self._released = at
        elif event == "promoted":
            self._note_promotion(at)
        elif event == "activated":
            self._activated = at
            self._phase.labels("activate").set(_number(members, "seconds"))
        elif event == "sweep-finished" and self._activated:
            self._phase.labels("resume").set(max(0.0, at - self._activated))
        elif event == "run-closed":
            self._ended.labels(str(members.get("status"))).inc()
            self._seconds.observe(_number(members, "seconds"))
            self._behind.observe(_number(members, "behind"))

    def _note_promotion(self, at: float) -> None:
        self._phase.clear()
        if self._silent:
            self._phase.labels("detect").set((self._released or at) - self._silent)
        if self._released:
            self._phase.labels("promote").set(at - self._released)
        self._silent = self._released = 0.0


def _number(members: Mapping[str, JsonValue], name: str) -> float:
    value = members.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
