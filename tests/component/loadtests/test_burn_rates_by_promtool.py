"""The burn-rate alerts by Prometheus's own tool: each fires where its budget is spent too fast, and not before."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.toolchain import ToolchainError, require
from loadtests.traffic.alerts import ALERTS, INDICATORS
from loadtests.traffic.objectives import OBJECTIVES, Latency, ObjectiveName, read_slo

pytestmark = pytest.mark.component
PER_MINUTE = 1000


@pytest.fixture(scope="module")
def promtool() -> Path:
    try:
        return require(["promtool"])["promtool"]
    except (KeyError, ToolchainError) as missing:
        pytest.skip(f"there is no promtool: {missing}")


def series(name: ObjectiveName, bad: int) -> list[dict[str, str]]:
    """Two hours without a bad one, then an hour in which so many of a thousand are."""
    indicator, objective = INDICATORS[name], read_slo().objectives.named(name)
    labels = f"{indicator.labels}," if indicator.labels else ""

    def counted(series: str, before: int, after: int) -> dict[str, str]:
        return {"series": series, "values": f"0+{before}x120 {120 * before + after}+{after}x60"}

    if isinstance(objective, Latency):
        bound = f'le="{float(objective.within_seconds)}"'
        return [
            counted(f"{indicator.metric}_bucket{{{labels}{bound}}}", PER_MINUTE, PER_MINUTE - bad),
            counted(f"{indicator.metric}_count{{{indicator.labels}}}", PER_MINUTE, PER_MINUTE),
        ]
    return [
        counted(f'{indicator.metric}{{{labels}status="202"}}', PER_MINUTE, PER_MINUTE - bad),
        counted(f'{indicator.metric}{{{labels}status="503"}}', 0, bad),
    ]


def firing(promtool: Path, place: Path, name: ObjectiveName, bad: int, at: str) -> bool:
    """Whether the objective's page over an hour fires then; its labels and words are those of the rules."""
    title = "".join(part.capitalize() for part in name.split("_"))
    groups: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    alert = f"{title}Burns1h"
    assert any(rule.get("alert") == alert for group in groups for rule in group["rules"])
    case = {"eval_time": at, "alertname": alert, "exp_alerts": []}
    test = {"interval": "1m", "input_series": series(name, bad), "alert_rule_test": [case]}
    document = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [test]}
    (place / "case.yaml").write_text(yaml.safe_dump(document))
    answer = subprocess.run(
        [promtool, "test", "rules", str(place / "case.yaml")], capture_output=True, text=True, check=False
    )
    told = answer.stdout + answer.stderr
    assert answer.returncode == 0 or "got:" in told, told
    return answer.returncode != 0


def test_the_rules_are_rules(promtool: Path) -> None:
    command = [promtool, "check", "rules", "--lint=all", "--lint-fatal", str(ALERTS)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_page_fires_where_the_budget_is_spent_fourteen_times_too_fast(
    promtool: Path, tmp_path: Path, name: ObjectiveName
) -> None:
    budget = round(read_slo().objectives.named(name).budget * PER_MINUTE)
    assert not firing(promtool, tmp_path, name, 20 * budget, "115m")  # nothing is wrong yet
    assert not firing(promtool, tmp_path, name, 20 * budget, "135m")  # over five minutes, not yet over the hour
    assert firing(promtool, tmp_path, name, 20 * budget, "175m")
    assert not firing(promtool, tmp_path, name, 10 * budget, "175m")  # too fast, but not that much
