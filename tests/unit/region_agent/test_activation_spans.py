"""An activation is a trace of its own, whose phases are spans and whose last phase is linked to the runs it woke."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from region_agent.events import all_of
from region_agent.spans import ActivationSpans

pytestmark = pytest.mark.unit

RUNS = {f"run-{number}": f"00-{number:032x}-{number:016x}-01" for number in (1, 2)}
Times = dict[str, tuple[float, float]]


@pytest.fixture
def reported() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def hear(reported: InMemorySpanExporter) -> ActivationSpans:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(reported))
    return ActivationSpans(provider.get_tracer("t"), "b")


def times(exporter: InMemorySpanExporter) -> Times:
    return {one.name: (_seconds(one.start_time), _seconds(one.end_time)) for one in exporter.get_finished_spans()}


def _seconds(at: int | None) -> float:
    return round((at or 0) / 1e9, 3)


def named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    (found,) = [span for span in exporter.get_finished_spans() if span.name == name]
    return found


def lose_a_region(hear: ActivationSpans) -> None:
    hear("silence-began", 100.0, {})
    hear("early-release", 103.2, {"decision": "released"})
    hear("early-release", 103.4, {"decision": "released"})
    hear("promoted", 103.9, {"epoch": 2})
    hear("activated", 104.9, {"epoch": 2, "seconds": 0.8})
    for run_id, traceparent in RUNS.items():
        hear("sweep-signalled", 104.95, {"run_id": run_id, "traceparent": traceparent})
    hear("sweep-signalled", 104.96, {"run_id": "untraced"})
    hear("sweep-finished", 105.0, {"epoch": 2, "runs": 3})


def test_a_lost_region_is_a_failover_with_its_four_phases(
    hear: ActivationSpans, reported: InMemorySpanExporter
) -> None:
    lose_a_region(hear)
    assert times(reported) == {
        "detect": (100.0, 103.2),
        "promote": (103.2, 103.9),
        "activate": (104.1, 104.9),
        "resume": (104.9, 105.0),
        "failover": (100.0, 105.0),
    }
    whole = named(reported, "failover")
    assert whole.attributes == {"holdfast.region": "b", "holdfast.epoch": "2", "holdfast.runs": "3"}
    for span in reported.get_finished_spans():
        assert span.context.trace_id == whole.context.trace_id
        assert span is whole or (span.parent and span.parent.span_id == whole.context.span_id)


def test_its_last_phase_is_linked_to_the_traces_of_the_runs_it_woke(
    hear: ActivationSpans, reported: InMemorySpanExporter
) -> None:
    lose_a_region(hear)
    links = [
        ((link.attributes or {})["holdfast.run_id"], link.context.trace_id) for link in named(reported, "resume").links
    ]
    assert links == [("run-1", 1), ("run-2", 2)]
    assert not named(reported, "detect").links


def test_a_switchover_has_no_detection_and_is_no_failover(
    hear: ActivationSpans, reported: InMemorySpanExporter
) -> None:
    hear("silence-began", 50.0, {})
    hear("early-release", 53.0, {"decision": "released"})
    hear("silence-ended", 54.0, {})
    hear("promoted", 100.0, {"epoch": 3})
    hear("activated", 101.0, {"epoch": 3, "seconds": 1.0})
    hear("sweep-finished", 101.5, {"epoch": 3, "runs": 0})
    assert times(reported) == {"activate": (100.0, 101.0), "resume": (101.0, 101.5), "activation": (100.0, 101.5)}


def test_the_next_activation_begins_anew(hear: ActivationSpans, reported: InMemorySpanExporter) -> None:
    lose_a_region(hear)
    hear("sweep-signalled", 110.0, {"run_id": "run-1", "traceparent": RUNS["run-1"]})
    reported.clear()
    hear("activated", 201.0, {"epoch": 2, "seconds": 1.0})
    hear("sweep-finished", 202.0, {"epoch": 2, "runs": 0})
    assert set(times(reported)) == {"activate", "resume", "activation"}
    assert not named(reported, "resume").links


def test_a_sweep_without_an_activation_is_no_trace(hear: ActivationSpans, reported: InMemorySpanExporter) -> None:
    hear("sweep-finished", 105.0, {"epoch": 2, "runs": 3})
    assert not reported.get_finished_spans()


def test_an_event_is_told_to_all_of_several_hearers() -> None:
    told: list[tuple[int, str]] = []

    def hearer(number: int):
        def hear(event: str, at: float, members: Mapping[str, object]) -> None:
            told.append((number, event))

        return hear

    all_of(hearer(1), hearer(2))("promoted", 1.0, {})
    assert told == [(1, "promoted"), (2, "promoted")]
