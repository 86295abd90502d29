"""The drills on a real deployment: what they prove, and that each planted bug is caught by the checker for it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra.state import project_root
from tests.support.cli import HOLDFAST, Cli

pytestmark = pytest.mark.bench

CHECKS = ["K1", "K2", "K3", "K4", "K5", "K6", "K9", "K10", "K11", "K12", "K13"]
PLANTS = [("recovery-sweep-off", "K1"), ("no-idempotency-key", "K2"), ("effect-runs-twice", "K2")]


def answers(verdict: dict[str, Any]) -> dict[str, str]:
    return {check["check"]: check["answer"] for check in verdict["checks"]}


def counts(verdict: dict[str, Any], check: str) -> dict[str, int]:
    return next(one["counts"] for one in verdict["checks"] if one["check"] == check)


def test_the_failover_is_proven_in_both_directions(cli: Cli) -> None:
    cli("up")
    cli.settled()
    told = cli("drill", "region-loss", "--repeat", "2")

    for verdict in told["verdicts"]:
        assert answers(verdict).keys() >= set(CHECKS)
        assert set(answers(verdict).values()) == {"valid"}
        assert counts(verdict, "K12")["in-flight"] >= 20
        assert counts(verdict, "K12")["effects-in-doubt"] >= 1
        assert counts(verdict, "K2")["duplicate-applied"] == 0
        assert counts(verdict, "K5")["executed-again-completed"] == 0
        recovery = verdict["recovery"]
        assert (recovery["rpo_events"], recovery["early_release"]) == (0, True)
        assert all(recovery[phase] is not None for phase in ("detect", "promote", "activate", "resume"))
    for report, verdict in zip(told["reports"], told["verdicts"], strict=True):
        assert json.loads((Path(report) / "verdict.json").read_text()) == verdict


def test_without_early_release_the_lease_runs_out(cli: Cli) -> None:
    cli("up", "-c", "early_release.enabled=false")
    cli.settled()
    told = cli("drill", "region-loss")
    (verdict,) = told["verdicts"]
    assert verdict["answer"] == "valid"
    assert not verdict["recovery"]["early_release"]
    assert verdict["recovery"]["detect"] > 10
    cli("up")
    cli.settled()


def test_a_crashed_workers_runs_go_on_in_another(cli: Cli) -> None:
    told = cli("drill", "worker-crash", "--repeat", "2")
    assert [verdict["answer"] for verdict in told["verdicts"]] == ["valid", "valid"]
    assert all(verdict["recovery"]["moved"] for verdict in told["verdicts"])


def test_a_planned_switchover_fails_no_run_either_way(cli: Cli) -> None:
    told = cli("drill", "switchover", "--repeat", "2")
    assert [verdict["answer"] for verdict in told["verdicts"]] == ["valid", "valid"]


def test_an_experiment_runs_with_chaos_toolkit_itself(cli: Cli, tmp_path: Path) -> None:
    journal = tmp_path / "journal.json"
    chaos = [str(Path(HOLDFAST).with_name("chaos")), "--no-version-check", f"--log-file={tmp_path / 'chaos.log'}"]
    command = [*chaos, "run", f"--journal-path={journal}"]
    ran = subprocess.run(
        [*command, str(project_root() / "chaos" / "experiments" / "worker-crash.yaml")],
        env={**os.environ, "HOLDFAST_STATE": str(cli.state)},
        cwd=project_root(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert json.loads(journal.read_text())["status"] == "completed"


def test_a_drill_that_does_not_exist_is_refused(cli: Cli) -> None:
    told = cli("drill", "flood", exits=2)
    assert "there is no drill 'flood'" in told["error"]
    assert "region-loss" in told["error"]


@pytest.mark.parametrize(("plant", "checker"), PLANTS)
def test_a_planted_bug_is_caught_by_its_checker(cli: Cli, plant: str, checker: str) -> None:
    told = cli("drill", "region-loss", "--plant", plant, exits=1)
    (verdict,) = told["verdicts"]
    assert answers(verdict)[checker] == "invalid"
    assert next(check["witness"] for check in verdict["checks"] if check["check"] == checker)
    assert verdict["planted"] == plant
