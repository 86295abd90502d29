"""`holdfast chaos matrix`: what is lacking is run, and the page follows the reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner, Result
from holdfast.cli import main

import chaos.drill
from chaos.experiment import Experiment, chosen
from chaos.faults import NotLiftedError
from chaos.recovery import Recovery
from chaos.report import Verdict
from chaos.verdict import Answer, CheckResult

pytestmark = pytest.mark.unit
TAG = "L1"
NAMES = [one.name for one in chosen((), [TAG])]


class ToldDrill:
    """Writes a report for each experiment, with the answers that it is told."""

    answers: ClassVar[dict[str, Answer]] = {}
    did: ClassVar[list[str]] = []
    breaks: ClassVar[dict[str, BaseException]] = {}

    def __init__(self, _: str, state: Path, *__: object) -> None:
        self.state = state

    def __enter__(self) -> ToldDrill:
        return self

    def __exit__(self, *_: object) -> None:
        self.did.append("leave")

    def wait_healthy(self) -> None:
        """It is."""

    def repair(self) -> None:
        self.did.append("repair")
        if "repair" in self.breaks:
            raise self.breaks["repair"]

    def run(self, experiment: Experiment, runs: int) -> tuple[Verdict, Path]:
        name = experiment.name
        self.did.append(name)
        folder = self.state / "reports" / f"20261125T{len(self.did):06}-{name}"
        folder.mkdir(parents=True)
        if name in self.breaks:
            raise self.breaks.pop(name)
        answer = self.answers.get(name, "valid")
        check = CheckResult(check="K1", claim="runs end", answer=answer)
        verdict = Verdict(experiment=name, answer=answer, recovery=Recovery(), checks=[check], runs=runs)
        (folder / "verdict.json").write_text(verdict.model_dump_json())
        return verdict, folder


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> type[ToldDrill]:
    fresh = type("Fresh", (ToldDrill,), {"did": [], "answers": {}, "breaks": {}})
    monkeypatch.setattr(chaos.drill, "Drill", fresh)
    return fresh


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    def invoke(*words: str, tag: str = TAG) -> Result:
        given = ["chaos", "matrix", "--tag", tag, "--state", str(tmp_path), "--page", str(tmp_path / "page.md"), *words]
        return CliRunner().invoke(main, given, prog_name="holdfast", env={"COLUMNS": "200"})

    return invoke


def test_everything_is_run_as_often_as_is_asked_for_and_then_nothing_more(
    told: type[ToldDrill], run: Callable[..., Result], tmp_path: Path
) -> None:
    result = run("--repeat", "2")
    assert result.exit_code == 0, result.output
    assert told.did == [*NAMES * 2, "leave"]
    assert "✓✓" in (tmp_path / "page.md").read_text()
    told.did.clear()
    assert run("--repeat", "2").exit_code == 0
    assert told.did == []


def test_a_stopped_matrix_has_its_page_and_goes_on_where_it_was(
    told: type[ToldDrill], run: Callable[..., Result], tmp_path: Path
) -> None:
    told.breaks[NAMES[1]] = KeyboardInterrupt()
    assert run("--repeat", "1").exit_code == 2
    assert told.did == [NAMES[0], NAMES[1], "leave"]
    page = (tmp_path / "page.md").read_text()
    assert "✓" in page
    assert f"000002-{NAMES[1]}" in page
    told.did.clear()
    assert run("--repeat", "1").exit_code == 0
    assert told.did == [*NAMES[1:], "leave"]


def test_a_deployment_that_an_experiment_breaks_is_repaired_and_the_others_go_on(
    told: type[ToldDrill], run: Callable[..., Result]
) -> None:
    told.breaks[NAMES[0]] = NotLiftedError("a link is still cut")
    result = run("--repeat", "1", "--json")
    assert result.exit_code == 2
    assert told.did == [NAMES[0], "repair", *NAMES[1:], "leave"]
    assert json.loads(result.stdout)["experiments"][NAMES[0]] == {"answer": "unknown", "reports": 0}


def test_a_deployment_that_can_not_be_repaired_ends_it(told: type[ToldDrill], run: Callable[..., Result]) -> None:
    told.breaks[NAMES[0]] = TimeoutError("waited for both regions")
    told.breaks["repair"] = TimeoutError("both regions are not healthy")
    result = run()
    assert result.exit_code == 2
    assert "both regions are not healthy; `holdfast down`" in result.output
    assert told.did == [NAMES[0], "repair", "leave"]


@pytest.mark.parametrize(("answer", "code"), [("invalid", 1), ("unknown", 2)])
def test_what_does_not_hold_is_named_and_is_the_exit_code(
    told: type[ToldDrill], run: Callable[..., Result], answer: Answer, code: int
) -> None:
    told.answers[NAMES[0]] = answer
    result = run()
    assert result.exit_code == code
    assert f"{answer} {NAMES[0]}, 3 reports" in result.output


def test_the_page_alone_needs_no_deployment_and_takes_reports_from_elsewhere(
    told: type[ToldDrill], run: Callable[..., Result], tmp_path: Path
) -> None:
    run("--repeat", "1")
    (tmp_path / "reports").rename(tmp_path / "by-hand")
    told.did.clear()
    assert run("--page-only", "--repeat", "1").exit_code == 2
    assert run("--page-only", "--repeat", "1", "--reports", str(tmp_path / "by-hand")).exit_code == 0
    assert told.did == []


def test_a_tag_that_there_is_not_is_refused(run: Callable[..., Result]) -> None:
    result: Any = run(tag="flood")
    assert result.exit_code == 2
    assert "'flood'" in result.output
