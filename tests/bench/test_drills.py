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
from tests.support.run_traces import by_run, reported, shape_of

pytestmark = pytest.mark.bench

CHECKS = ["K1", "K2", "K3", "K4", "K5", "K6", "K9", "K10", "K11", "K12", "K13"]
PLANTS = [("recovery-sweep-off", "K1"), ("no-idempotency-key", "K2"), ("effect-runs-twice", "K2")]


def answers(verdict: dict[str, Any]) -> dict[str, str]:
    return {check["check"]: check["answer"] for check in verdict["checks"]}


def counts(verdict: dict[str, Any], check: str) -> dict[str, int]:
    return next(one["counts"] for one in verdict["checks"] if one["check"] == check)


def one_trace_per_run(cli: Cli, place: Path) -> None:
    """Each run that both regions reported is one trace with the spans of an undisturbed run; failovers are linked."""
    spans = reported(cli.directory)
    runs = by_run(spans)
    crossed = {run_id: found for run_id, found in runs.items() if len({span.region for span in found}) == 2}
    assert len(crossed) >= 20, f"of {len(runs)} runs so many were reported by both regions: {sorted(crossed)}"

    tickets = {run_id: run_id.split("-", 2)[2] for run_id in crossed}
    known = (project_root() / "app/refund_desk/data/tickets.jsonl").read_text().splitlines()
    again = place / "tickets.jsonl"
    again.write_text("\n".join(line for line in known if json.loads(line)["ticket_id"] in tickets.values()) + "\n")
    cli("run", str(again), "--prefix", "calm-")
    calm = by_run(reported(cli.directory))
    for run_id, found in crossed.items():
        undisturbed = calm[f"calm-{tickets[run_id]}"]
        assert len({span.region for span in undisturbed}) == 1
        assert shape_of(found) == shape_of(undisturbed), f"{run_id} has other spans than without a fault"

    failovers = [span for span in spans if span.name == "failover"]
    assert {span.region for span in failovers} == {"a", "b"}
    for failover in failovers:
        phases = [span for span in spans if span.parent == failover.span]
        assert {span.name for span in phases} == {"detect", "promote", "activate", "resume"}
        (resume,) = [span for span in phases if span.name == "resume"]
        assert len(set(resume.linked)) >= 20
        for run_id, trace in zip(resume.linked, resume.links, strict=True):
            assert {span.trace for span in runs.get(run_id, [])} <= {trace}


def test_the_failover_is_proven_in_both_directions(cli: Cli, tmp_path: Path) -> None:
    cli("up", "-c", "traces.to=file")
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
    one_trace_per_run(cli, tmp_path)


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
