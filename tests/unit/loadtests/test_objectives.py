"""slo.yaml is read as a whole or refused with all that is wrong, and judges what clients were told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtests.traffic.entries import Entry, Name
from loadtests.traffic.objectives import SLO, Objectives, Outcome, SloError, judge, read_slo

pytestmark = pytest.mark.unit


@pytest.fixture
def document() -> dict[str, Any]:
    return yaml.safe_load(SLO.read_text())


def written(place: Path, document: object) -> Path:
    path = place / "slo.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def refusal(place: Path, document: object) -> str:
    with pytest.raises(SloError) as refused:
        read_slo(written(place, document))
    return str(refused.value)


def entries(name: Name, *seconds: float, error: str | None = None) -> list[Entry]:
    return [Entry(name=name, at=0, seconds=one, error=error) for one in seconds]


def outcome(seen: list[Entry], name: str) -> Outcome:
    objectives = Objectives.model_validate(
        {
            "start_availability": {"target": 90.0},
            "start_latency": {"target": 90.0, "within_seconds": 1.0},
            "completion_latency": {"target": 90.0, "within_seconds": 10.0},
            "freshness": {"target": 90.0, "within_seconds": 5.0},
        }
    )
    return next(one for one in judge(objectives, seen) if one.name == name)


def test_the_file_in_the_repository_is_read() -> None:
    slo = read_slo()
    assert slo.objectives.start_availability.target == 99.9
    assert slo.objectives.start_availability.budget == 0.001
    assert {rate.severity for rate in slo.burn_rates} == {"page", "ticket"}


def test_everything_that_is_wrong_is_named_by_its_key(tmp_path: Path, document: dict[str, Any]) -> None:
    document["objectives"]["start_latency"] = {"target": "99", "withn_seconds": 1}
    document["objectives"]["freshness"]["target"] = 100
    document["objectives"]["throughput"] = {"target": 99}
    del document["objectives"]["completion_latency"]
    document["burn_rates"][0]["long"] = "an hour"
    document["burn_rates"][1]["short"] = "6h"
    told = refusal(tmp_path, document)
    assert "objectives.start_latency.target: found '99'; input should be a valid number" in told
    assert "objectives.start_latency.withn_seconds: a key that does not exist; did you mean within_seconds?" in told
    assert "objectives.start_latency.within_seconds: is missing" in told
    assert "objectives.completion_latency: is missing" in told
    assert "objectives.freshness.target: found 100; input should be less than 100" in told
    assert "objectives.throughput: a key that does not exist; there are start_availability, start_latency" in told
    assert "burn_rates.0.long: found 'an hour'" in told
    assert "burn_rates.1: short 6h must be shorter than long 6h" in told


@pytest.mark.parametrize("value", [True, None, [99], {"percent": 99}, float("nan")])
def test_a_target_of_another_type_is_refused(tmp_path: Path, document: dict[str, Any], value: object) -> None:
    document["objectives"]["freshness"]["target"] = value
    assert "objectives.freshness.target" in refusal(tmp_path, document)


def test_a_burn_rate_that_can_never_be_reached_is_refused(tmp_path: Path, document: dict[str, Any]) -> None:
    document["objectives"]["freshness"]["target"] = 90
    assert "a factor of 14.4 can never be reached by freshness" in refusal(tmp_path, document)


@pytest.mark.parametrize("document", [None, [], "text", 3])
def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, document: object) -> None:
    assert "the file: found" in refusal(tmp_path, document)


def test_a_file_that_is_no_yaml_or_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "slo.yaml").write_text("objectives: [")
    for path in (tmp_path / "slo.yaml", tmp_path / "none.yaml", tmp_path):
        with pytest.raises(SloError, match="can't be read"):
            read_slo(path)


def test_a_start_that_was_not_acknowledged_is_unavailable_and_not_slow() -> None:
    seen = entries("start", *[0.1] * 8) + entries("start", 30, 30, error="503")
    assert outcome(seen, "start_availability").holds is False
    assert outcome(seen, "start_availability").told == "80.00 % of 10"
    latency = outcome(seen, "start_latency")
    assert (latency.holds, latency.good, latency.seen) == (True, 8, 8)


def test_the_budget_may_be_spent_to_its_end() -> None:
    assert outcome(entries("start", *[0.1] * 9, 1.1), "start_latency").holds is True
    assert outcome(entries("start", *[0.1] * 8, 1.1, 1.1), "start_latency").holds is False


def test_a_run_that_fails_or_ends_late_is_a_bad_completion() -> None:
    good = entries("complete", *[10.0] * 9)
    assert outcome(good + entries("complete", 0.5, error="failed"), "completion_latency").good == 9
    assert outcome(good + entries("complete", 10.1), "completion_latency").good == 9


def test_what_was_not_seen_is_not_judged() -> None:
    found = outcome(entries("start", 0.1), "freshness")
    assert (found.holds, found.told) == (None, "nothing was seen")
    assert found.promise == "90 % within 5 s"
    assert outcome([], "start_availability").promise == "90 % acknowledged"
