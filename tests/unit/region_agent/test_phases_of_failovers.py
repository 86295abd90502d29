"""The phases of a failover are those of its last activation, by what the agent recorded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry
from region_agent.config import AgentConfig
from region_agent.events import EventLog
from region_agent.meters import PHASES, EventMeters

pytestmark = pytest.mark.unit

Phases = Callable[[], dict[str, float]]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def hear(registry: CollectorRegistry) -> EventMeters:
    return EventMeters(registry)


@pytest.fixture
def phases(registry: CollectorRegistry) -> Phases:
    def read() -> dict[str, float]:
        seen = {one: registry.get_sample_value("holdfast_failover_phase_seconds", {"phase": one}) for one in PHASES}
        return {phase: round(value, 3) for phase, value in seen.items() if value is not None}

    return read


def test_a_lost_region_is_detected_and_the_other_promoted_activated_and_its_runs_woken(
    hear: EventMeters, phases: Phases
) -> None:
    hear("silence-began", 100.0, {})
    hear("early-release", 103.0, {"decision": "refused"})
    hear("early-release", 103.2, {"decision": "released"})
    hear("early-release", 103.4, {"decision": "released"})
    hear("promoted", 103.9, {"epoch": 2})
    hear("activated", 104.9, {"epoch": 2, "seconds": 0.8})
    hear("sweep-finished", 105.0, {"runs": 3})
    assert phases() == {"detect": 3.2, "promote": 0.7, "activate": 0.8, "resume": 0.1}


def test_where_the_lease_runs_out_the_detection_lasts_until_the_promotion(hear: EventMeters, phases: Phases) -> None:
    hear("silence-began", 100.0, {})
    hear("promoted", 121.0, {})
    assert phases() == {"detect": 21.0}


def test_a_switchover_has_no_detection_and_forgets_the_failover_before_it(hear: EventMeters, phases: Phases) -> None:
    hear("silence-began", 100.0, {})
    hear("promoted", 121.0, {})
    hear("promoted", 200.0, {})
    hear("activated", 201.5, {"seconds": 1.5})
    assert phases() == {"activate": 1.5}


def test_a_silence_that_ended_is_none_of_a_later_promotion_s(hear: EventMeters, phases: Phases) -> None:
    hear("silence-began", 100.0, {})
    hear("silence-ended", 101.0, {})
    hear("promoted", 130.0, {})
    assert phases() == {}


def test_a_sweep_of_an_agent_that_was_restarted_has_no_activation_to_count_from(
    hear: EventMeters, phases: Phases
) -> None:
    hear("sweep-finished", 105.0, {"runs": 3})
    assert phases() == {}


def test_runs_are_counted_as_they_end(hear: EventMeters, registry: CollectorRegistry) -> None:
    hear("run-closed", 1.0, {"status": "completed", "seconds": 4.5, "behind": 0.7})
    assert registry.get_sample_value("holdfast_runs_ended_total", {"status": "completed"}) == 1
    assert registry.get_sample_value("holdfast_runs_ended_total", {"status": "failed"}) == 0
    assert registry.get_sample_value("holdfast_run_seconds_sum") == 4.5
    assert registry.get_sample_value("holdfast_run_closing_seconds_bucket", {"le": "0.5"}) == 0
    assert registry.get_sample_value("holdfast_run_closing_seconds_bucket", {"le": "1.0"}) == 1


def test_events_are_counted_where_they_are_recorded_and_those_with_an_alert_from_nothing(
    config: AgentConfig, registry: CollectorRegistry, hear: EventMeters
) -> None:
    name = "holdfast_agent_events_total"
    assert registry.get_sample_value(name, {"event": "reminders-lost"}) == 0
    EventLog(config.events_file, hear).record("reminders-lost", epoch=3)
    assert registry.get_sample_value(name, {"event": "reminders-lost"}) == 1
