"""The catalogue is listed and run by name, tag or all; the worst verdict is the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner, Result
from holdfast.cli import main

import chaos.drill
from chaos.durations import Durations
from chaos.experiment import EXPERIMENTS, Experiment
from chaos.faults import NotLiftedError
from chaos.recovery import Recovery
from chaos.report import Verdict
from chaos.verdict import Answer, CheckResult

pytestmark = pytest.mark.unit


class ToldDrill:
    """Runs nothing, and gives one answer after the other."""

    answers: ClassVar[list[Answer]] = []
    did: ClassVar[list[str]] = []
    place: ClassVar[Path]
    wrong: ClassVar[Exception | None] = None

    def __init__(self, stack: str, state: Path | None, settings: dict[str, str], plant: Any, *_: object) -> None:
        self.did.append(f"prepare {stack} {settings} {getattr(plant, 'name', plant)}")
        self.state = self.place

    def __enter__(self) -> ToldDrill:
        return self

    def __exit__(self, *_: object) -> None:
        self.did.append("leave")

    def wait_healthy(self) -> None:
        self.did.append("healthy")
        if self.wrong is not None:
            raise self.wrong

    def run(self, experiment: Experiment, runs: int) -> tuple[Verdict, Path]:
        self.did.append(f"{experiment.name} {runs}")
        return self._verdict(experiment.name)

    def judged(self, name: str, runs: int, play: Callable[[Any], object]) -> tuple[Verdict, Path]:
        self.did.append(name)
        return self._verdict(name)

    def _verdict(self, name: str) -> tuple[Verdict, Path]:
        answer = self.answers.pop(0) if self.answers else "valid"
        check = CheckResult(check="K1", claim="runs end", answer=answer)
        verdict = Verdict(experiment=name, answer=answer, recovery=Recovery(rto=4.2), checks=[check], runs=3)
        return verdict, Path("/reports") / name


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[ToldDrill]:
    fresh = type("Fresh", (ToldDrill,), {"did": [], "answers": [], "place": tmp_path})
    monkeypatch.setattr(chaos.drill, "Drill", fresh)
    return fresh


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["chaos", *arguments], prog_name="holdfast", env={"COLUMNS": "200"})


def test_the_catalogue_is_listed_with_what_each_takes(tmp_path: Path) -> None:
    Durations(tmp_path).note("region-loss", 33.0)
    result = run("list", "--tag", "R1", "--state", str(tmp_path))
    assert result.exit_code == 0
    assert "Losing the active region loses no agent run" in result.output
    assert "33 s" in result.output
    assert "R4" not in result.output


def test_the_catalogue_is_listed_for_programs() -> None:
    listed = {one["name"]: one for one in json.loads(run("list", "--json").output)["experiments"]}
    assert listed.keys() == EXPERIMENTS.keys()
    assert listed["region-loss"]["rows"] == ["R1"]
    assert listed["region-loss"]["needs"] == ["kill"]
    assert listed["region-loss"]["faults"] == ["region-loss"]
    assert listed["region-loss"]["seconds"] > 0


@pytest.mark.parametrize("arguments", [["list", "--tag", "flood"], ["run", "flood"], ["run", "--tag", "flood"]])
def test_what_there_is_not_is_refused(told: type[ToldDrill], arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "'flood'" in result.output
    assert told.did == []


def test_somebody_who_names_nothing_is_told_what_to_name() -> None:
    result = run("run")
    assert result.exit_code == 2
    assert "`holdfast chaos list`" in result.output


def test_experiments_run_in_order_each_on_a_healthy_deployment(told: type[ToldDrill]) -> None:
    result = run("run", "switchover", "region-loss", "--repeat", "2", "--runs", "30")
    assert result.exit_code == 0
    assert told.did[1:-1] == [step for name in ("switchover", "region-loss") * 2 for step in ("healthy", f"{name} 30")]
    assert "switchover: 1 of 4, about" in result.output
    assert "region-loss: 4 of 4" in result.output
    assert "4.20 s" in result.output


def test_how_long_each_lasted_is_remembered(told: type[ToldDrill], tmp_path: Path) -> None:
    run("run", "switchover")
    seen = json.loads((tmp_path / "chaos-durations.json").read_text())
    assert seen.keys() == {"switchover"}


@pytest.mark.parametrize(
    ("answers", "code"), [(["valid", "invalid"], 1), (["unknown", "valid"], 2), (["unknown", "invalid"], 1)]
)
def test_the_worst_verdict_is_the_exit_code(told: type[ToldDrill], answers: list[Answer], code: int) -> None:
    told.answers.extend(answers)
    result = run("run", "switchover", "region-loss", "--json")
    assert result.exit_code == code
    answer = json.loads(result.stdout)
    assert [one["answer"] for one in answer["verdicts"]] == answers
    assert answer["reports"] == ["/reports/switchover", "/reports/region-loss"]


@pytest.mark.parametrize("wrong", [TimeoutError("both regions to be healthy"), NotLiftedError("a link is still cut")])
def test_a_deployment_that_does_not_recover_ends_the_series(told: type[ToldDrill], wrong: Exception) -> None:
    told.wrong = wrong
    result = run("run", "switchover", "region-loss")
    assert result.exit_code == 2
    assert f"{wrong}; `holdfast up` repairs the deployment" in result.output
    assert told.did[-2:] == ["healthy", "leave"]


def test_everything_is_run_where_that_is_asked(told: type[ToldDrill]) -> None:
    assert run("run", "--all").exit_code == 0
    assert told.did.count("healthy") == len(EXPERIMENTS)


def test_a_seeds_schedule_is_printed_and_nothing_is_done(told: type[ToldDrill]) -> None:
    first, second = (run("nemesis", "--seed", "3", "--seconds", "60", "--dry-run").output for _ in range(2))
    assert first == second
    schedule = json.loads(first)["schedule"]
    assert schedule[0]["at"] == 0
    assert schedule[0].keys() == {"at", "fault", "where", "seconds"}
    assert told.did == []


def test_a_seed_is_played_and_told_also_where_chance_chose_it(told: type[ToldDrill]) -> None:
    assert "seed 3:" in run("nemesis", "--seed", "3", "--seconds", "30").output
    assert "nemesis-3 24" in told.did
    result = run("nemesis", "--seconds", "30")
    assert f"`--seed {told.did[-2].split()[0].removeprefix('nemesis-')}` composes the same again" in result.output


def test_the_grid_is_played_in_a_deployment_of_its_own(told: type[ToldDrill]) -> None:
    told.answers.append("invalid")
    result = run("grid", "--workers", "4", "--json")
    assert result.exit_code == 1
    assert told.did[:2] == ["prepare local {'workers': '4'} crash-points", "crash-points"]
    assert json.loads(result.stdout)["answer"] == "invalid"


def test_commands_explain_themselves() -> None:
    assert "holdfast chaos nemesis" in run("--help").output
    for command in ("list", "run", "nemesis", "grid"):
        assert run(command, "--help").exit_code == 0
