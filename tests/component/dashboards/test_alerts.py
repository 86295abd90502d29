"""Alerts fire when they should, and not before: Prometheus's own checker says so."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from infra.toolchain import ToolMissing, require

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[3]
RULES = ROOT / "dashboards" / "rules" / "alerts.yaml"
CASES = Path(__file__).with_name("alerts.yaml")


@pytest.fixture(scope="module")
def promtool() -> Path:
    try:
        return require(["promtool"])["promtool"]
    except ToolMissing as missing:
        pytest.skip(str(missing))


def run(*command: str | Path) -> str:
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def test_the_rules_are_rules(promtool: Path) -> None:
    assert "rules found" in run(promtool, "check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_each_alert_fires_when_it_should_and_not_before(promtool: Path) -> None:
    assert "SUCCESS" in run(promtool, "test", "rules", CASES)


def test_each_alert_is_shown_to_fire() -> None:
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    shown = {
        case["alertname"]
        for test in yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert shown == alerts
