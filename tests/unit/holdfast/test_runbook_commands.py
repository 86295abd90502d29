"""Runbooks are listed and drilled by name, game days are held; the worst verdict is the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner, Result
from holdfast import gameday as command
from holdfast.cli import main

import chaos.drill
import chaos.runbooks.gameday
import chaos.runbooks.page
import chaos.runbooks.player
from chaos.faults import NotLiftedError
from chaos.recovery import Recovery
from chaos.report import Verdict
from chaos.runbooks import results
from chaos.runbooks.page import Malformed, Runbook, runbooks
from chaos.verdict import Answer, CheckResult

pytestmark = pytest.mark.unit


def verdict_of(answer: Answer) -> Verdict:
    check = CheckResult(check="C", claim="what the experiment claims held", answer=answer)
    return Verdict(experiment="runbook", answer=answer, recovery=Recovery(rto=4.2), checks=[check], runs=3)


class ToldDrill:
    """Runs nothing, and gives one answer after the other."""

    answers: ClassVar[list[Answer]] = []
    did: ClassVar[list[str]] = []
    wrong: ClassVar[Exception | None] = None

    def __init__(self, stack: str, state: Path | None, settings: dict[str, str], plant: Any, keep: bool, _: Any):
        self.did.append(f"prepare {stack} {keep}")

    def __enter__(self) -> ToldDrill:
        return self

    def __exit__(self, *_: object) -> None:
        self.did.append("leave")

    def judged(self, name: str, runs: int, play: Callable[[Any], object]) -> tuple[Verdict, Path]:
        self.did.append(f"{name} {runs}")
        play(None)
        return verdict_of(self.answers.pop(0) if self.answers else "valid"), Path("/reports") / name


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> type[ToldDrill]:
    fresh = type("Fresh", (ToldDrill,), {"answers": [], "did": [], "wrong": None})

    def drilled(prepared: ToldDrill, page: Runbook, runs: int, say: Callable[[str], object], kept: Path) -> Any:
        if prepared.wrong is not None:
            raise prepared.wrong
        say(f"{page.title}: region a was active")
        verdict, folder = prepared.judged(page.name, runs, lambda _: None)
        measured = results.Result(runbook=page.name, active="a", at="2026-05-01T03:00:00Z", answer=verdict.answer)
        results.save(measured, kept)
        return verdict, folder, measured

    monkeypatch.setattr(chaos.drill, "Drill", fresh)
    monkeypatch.setattr(chaos.runbooks.player, "drilled", drilled)
    return fresh


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["drill", *arguments])


def test_a_runbook_is_drilled_and_measured(told: type[ToldDrill], tmp_path: Path) -> None:
    result = run("runbook", "region-loss", "--repeat", "2", "--runs", "30", "--keep", "--results", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert told.did == ["prepare local True", "region-loss 30", "region-loss 30", "leave"]
    assert "Region loss: region a was active" in result.output
    assert "region-loss: 2 of 2" in result.output
    assert len(results.load(tmp_path)) == 1


def test_every_runbook_that_can_be_drilled_is(told: type[ToldDrill], tmp_path: Path) -> None:
    assert run("runbook", "--all", "--results", str(tmp_path)).exit_code == 0
    assert [one.split()[0] for one in told.did[1:-1]] == [page.name for page in runbooks() if not page.not_drilled]


@pytest.mark.parametrize(("answers", "code"), [(["valid", "invalid"], 1), (["unknown", "valid"], 2)])
def test_the_worst_verdict_is_the_exit_code(
    told: type[ToldDrill], tmp_path: Path, answers: list[Answer], code: int
) -> None:
    told.answers.extend(answers)
    result = run("runbook", "region-loss", "--repeat", "2", "--results", str(tmp_path), "--json")
    assert result.exit_code == code
    answer = json.loads(result.stdout)
    assert [one["answer"] for one in answer["verdicts"]] == answers
    assert [one["runbook"] for one in answer["results"]] == ["region-loss"] * 2
    assert answer["reports"] == ["/reports/region-loss"] * 2


REFUSED = [
    (["runbook"], "`holdfast drill runbook --list`"),
    (["runbook", "flood"], "there is no runbook 'flood'; there are"),
    (["runbook", "backup-and-restore"], "backup-and-restore can't be drilled: there is no command"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED)
def test_what_can_not_be_drilled_is_refused_with_the_reason(
    told: type[ToldDrill], arguments: list[str], said: str
) -> None:
    result = run(*arguments, "--json")
    assert result.exit_code == 2
    assert said in json.loads(result.stdout)["error"]
    assert told.did == []


def test_a_malformed_page_is_refused(told: type[ToldDrill], monkeypatch: pytest.MonkeyPatch) -> None:
    def malformed(*_: object) -> None:
        raise Malformed("region-loss.md:7: Symptom says nothing")

    monkeypatch.setattr(chaos.runbooks.page, "runbook_named", malformed)
    monkeypatch.setattr(chaos.runbooks.page, "runbooks", malformed)
    for arguments in (["runbook", "region-loss"], ["runbook", "--list"], ["game-day", "--operator", "true"]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert "region-loss.md:7: Symptom says nothing" in result.output


@pytest.mark.parametrize("wrong", [TimeoutError("both regions to be healthy"), NotLiftedError("a link is still cut")])
def test_a_deployment_that_does_not_recover_ends_it(told: type[ToldDrill], wrong: Exception) -> None:
    told.wrong = wrong
    result = run("runbook", "region-loss")
    assert result.exit_code == 2
    assert f"{wrong}; `holdfast up` repairs the deployment" in result.output


def test_runbooks_are_listed_with_what_drills_showed(tmp_path: Path) -> None:
    measured = results.Result(runbook="region-loss", active="b", at="2026-05-01T03:00:00Z", answer="valid")
    results.save(measured, tmp_path)
    shown = CliRunner(env={"COLUMNS": "220"}).invoke(main, ["drill", "runbook", "--list", "--results", str(tmp_path)])
    assert shown.exit_code == 0
    assert "region-loss at active" in shown.output
    assert "from b valid, 0 s" in shown.output
    assert "there is no command that restores" in shown.output
    listed = {
        one["name"]: one
        for one in json.loads(run("runbook", "--list", "--json", "--results", str(tmp_path)).stdout)["runbooks"]
    }
    assert listed["region-loss"]["results"] == [measured.model_dump(mode="json")]
    assert (listed["region-loss"]["drilled"], listed["backup-and-restore"]["drilled"]) == (True, False)


class ToldGame:
    """A game in which an operator brought the service back, and nothing more."""

    whole: ClassVar[float | None] = None

    def __init__(self, session: Any, page: Runbook, say: Callable[[str], object], operator: str | None, give_up: float):
        self.served = 5.0
        say(f"{operator} {give_up:g}")

    def play(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def games(monkeypatch: pytest.MonkeyPatch) -> type[ToldGame]:
    fresh = type("Fresh", (ToldGame,), {})
    monkeypatch.setattr(chaos.runbooks.gameday, "GameDay", fresh)
    return fresh


def test_a_game_day_ends_with_the_runbook_and_the_verdict(told: type[ToldDrill], games: type[ToldGame]) -> None:
    games.whole = 21.5
    result = run("game-day", "--seed", "7", "--operator", "holdfast up", "--give-up", "90")
    assert result.exit_code == 0
    assert told.did == ["prepare local False", "game-day 24", "leave"]
    assert "holdfast up 90" in result.output
    assert "it was " in result.output
    assert "served after 5.0 s, nothing was wrong after 21.5 s; `--seed 7` again" in result.output


def test_a_game_that_was_lost_does_not_hold(told: type[ToldDrill], games: type[ToldGame]) -> None:
    told.answers.append("invalid")
    result = run("game-day", "--operator", "true", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert (answer["answer"], answer["served"], answer["whole"]) == ("invalid", 5.0, None)


def test_a_game_needs_an_operator(told: type[ToldDrill]) -> None:
    result = run("game-day")
    assert result.exit_code == 2
    assert "name a command with --operator" in result.output
    assert told.did == []


def test_somebody_at_a_terminal_is_the_operator(
    told: type[ToldDrill], games: type[ToldGame], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal:
        @staticmethod
        def isatty() -> bool:
            return True

    monkeypatch.setattr(command, "sys", type("Sys", (), {"stdin": Terminal, "exit": command.sys.exit}))
    result = run("game-day", "--seed", "1")
    assert result.exit_code == 0
    assert "None 600" in result.output
    assert "nothing was wrong after never" in result.output


def test_a_deployment_that_does_not_recover_ends_the_game(
    told: type[ToldDrill], games: type[ToldGame], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise TimeoutError("both regions to be healthy")

    monkeypatch.setattr(told, "judged", lost)
    result = run("game-day", "--operator", "true")
    assert result.exit_code == 2
    assert "`holdfast up` repairs the deployment" in result.output


def test_a_name_that_is_no_command_is_a_drills() -> None:
    assert "[region-loss|worker-crash|switchover]" in run("region-loss", "--help").output
    assert "game-day" in run("--help").output
    assert "experiment" not in run("--help").output.partition("Commands:")[2]
    for name in ("runbook", "game-day"):
        assert run(name, "--help").exit_code == 0
