"""An activation as a trace of its own: its phases are spans, the last of them linked to each run that it woke."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry import trace
from pydantic import JsonValue
from serving.tracing import link_to

_NANOSECONDS = 1_000_000_000


class ActivationSpans:
    """Hears every event when it is recorded, and reports a trace when the sweep after an activation has ended.

    Phases are those of `EventMeters`: a switchover has no `detect`, and scheduler data that was lost no `promote`.
    """

    def __init__(self, tracer: trace.Tracer, region: str) -> None:
        self._tracer, self._region = tracer, region
        self._silent = self._released = self._promoted = 0.0
        self._activating = self._activated = 0.0
        self._links: list[trace.Link] = []

    def __call__(self, event: str, at: float, members: Mapping[str, JsonValue]) -> None:
        """Note one event, which happened `at` that time."""
        if event == "silence-began":
            self._silent, self._released = at, 0.0
        elif event == "silence-ended":
            self._silent = self._released = 0.0
        elif event == "early-release" and members.get("decision") == "released" and not self._released:
            self._released = at
        elif event == "promoted":
            self._promoted = at
        elif event == "activated":
            seconds = members.get("seconds")
            self._activating = at - (seconds if isinstance(seconds, int | float) else 0.0)
            self._activated, self._links = at, []
        elif event == "sweep-signalled" and self._activated:
            link = link_to(str(members.get("traceparent", "")), run_id=str(members.get("run_id")))
            if link is not None:
                self._links.append(link)
        elif event == "sweep-finished" and self._activated:
            self._report(at, members)
            self._silent = self._released = self._promoted = self._activated = 0.0

    def _report(self, at: float, members: Mapping[str, JsonValue]) -> None:
        detected = self._released or self._promoted
        phases = [
            ("detect", self._silent, detected),
            ("promote", self._released, self._promoted),
            ("activate", self._activating, self._activated),
            ("resume", self._activated, at),
        ]
        happened = [(name, began, ended) for name, began, ended in phases if began and ended]
        epoch, runs = members.get("epoch"), members.get("runs")
        whole = self._tracer.start_span(
            "failover" if self._silent and self._promoted else "activation",
            context=trace.set_span_in_context(trace.INVALID_SPAN),
            start_time=_at(min(began for _, began, _ in happened)),
            attributes={"holdfast.region": self._region, "holdfast.epoch": str(epoch), "holdfast.runs": str(runs)},
        )
        below = trace.set_span_in_context(whole)
        for name, began, ended in happened:
            links = self._links if name == "resume" else []
            self._tracer.start_span(name, context=below, start_time=_at(began), links=links).end(_at(ended))
        whole.end(_at(at))


def _at(seconds: float) -> int:
    return int(seconds * _NANOSECONDS)
