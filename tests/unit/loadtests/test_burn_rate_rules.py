"""The rules for Prometheus say what slo.yaml demands, and the file in the repository is what it makes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from region_agent.meters import EventMeters
from serving import measure

from loadtests.traffic import alerts as rules
from loadtests.traffic.alerts import ALERTS, INDICATORS, main, rules_of
from loadtests.traffic.objectives import Slo, SloError, read_slo

pytestmark = pytest.mark.unit


@pytest.fixture
def slo() -> Slo:
    return read_slo()


def of(slo: Slo, group: int) -> list[dict[str, Any]]:
    return cast("Any", rules_of(slo))["groups"][group]["rules"]


def test_the_file_in_the_repository_is_made_of_slo_yaml() -> None:
    assert main(["--check"]) == 0


def test_a_file_that_was_changed_by_hand_is_found_and_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "rules" / "slo.yaml"
    monkeypatch.setattr(rules, "ALERTS", changed)
    assert main(["--check"]) == 1
    assert main([]) == main(["--check"]) == 0
    changed.write_text("groups: []")
    assert main(["--check"]) == 1
    assert "writes it anew" in capsys.readouterr().out
    assert main([]) == 0
    assert changed.read_text() == ALERTS.read_text()


def test_objectives_that_are_refused_make_no_rules(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused() -> Slo:
        raise SloError("no good")

    monkeypatch.setattr(rules, "read_slo", refused)
    assert main([]) == 2
    assert "no good" in capsys.readouterr().err


def test_every_ratio_that_an_alert_compares_is_recorded(slo: Slo) -> None:
    recorded = {f'{one["record"]}{{objective="{one["labels"]["objective"]}"}}' for one in of(slo, 0)}
    compared = {part.split(" > ")[0] for one in of(slo, 1) for part in one["expr"].split(" and ")}
    assert compared == recorded


def test_an_alert_needs_both_windows_and_its_share_of_the_budget(slo: Slo) -> None:
    page = of(slo, 1)[0]
    assert page["alert"] == "StartAvailabilityBurns1h"
    assert page["expr"] == (
        'holdfast:slo_errors:ratio_rate1h{objective="start_availability"} > 14.4 * 0.001 and '
        'holdfast:slo_errors:ratio_rate5m{objective="start_availability"} > 14.4 * 0.001'
    )
    assert page["labels"] == {"severity": "page", "objective": "start_availability", "window": "1h"}
    assert len({one["alert"] for one in of(slo, 1)}) == 4 * len(slo.burn_rates)


def test_a_counter_s_bad_answers_and_a_histogram_s_slow_ones_are_errors(slo: Slo) -> None:
    expressions = {one["labels"]["objective"]: one["expr"] for one in of(slo, 0) if one["record"].endswith("rate5m")}
    assert expressions["start_availability"] == (
        '(sum(rate(holdfast_http_requests_total{method="POST",route="/v1/runs",status=~"5..|429"}[5m]))'
        " or vector(0)) / "
        'sum(rate(holdfast_http_requests_total{method="POST",route="/v1/runs"}[5m]))'
    )
    assert expressions["start_latency"] == (
        '1 - sum(rate(holdfast_http_request_seconds_bucket{method="POST",route="/v1/runs",le="1.0"}[5m])) / '
        'sum(rate(holdfast_http_request_seconds_count{method="POST",route="/v1/runs"}[5m]))'
    )
    assert 'holdfast_run_seconds_bucket{le="10.0"}' in expressions["completion_latency"]
    assert "sum(rate(holdfast_run_seconds_count[5m]))" in expressions["completion_latency"]


@pytest.fixture(scope="module")
def bounds() -> dict[str, set[str]]:
    """The bounds of the histograms that the processes tell, as they tell them."""
    registry, app = CollectorRegistry(), FastAPI()
    EventMeters(registry)
    measure(app, registry)
    TestClient(app).post("/v1/runs")
    return {
        family.name: {one.labels["le"] for one in family.samples if one.name.endswith("_bucket")}
        for family in registry.collect()
    }


def test_a_limit_is_a_bound_of_its_histogram_or_nobody_could_count_what_is_within_it(
    slo: Slo, bounds: dict[str, set[str]]
) -> None:
    limits = {
        (metric, limit)
        for rule in of(slo, 0)
        for metric, limit in re.findall(r'(\w+)_bucket\{[^}]*le="([^"]+)"', rule["expr"])
    }
    assert {metric for metric, _ in limits} == {one.metric for one in INDICATORS.values() if one.bad is None}
    for metric, limit in limits:
        assert limit in bounds[metric], f"{metric} has no bound {limit}: its bounds are {sorted(bounds[metric])}"
