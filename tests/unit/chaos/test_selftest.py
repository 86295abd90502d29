"""The self-test holds where every bug is caught by its checker, and clean code is valid."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from chaos import selftest
from chaos.checks import CHECKS
from chaos.experiment import Experiment
from chaos.plants import PLANTS
from chaos.recovery import Recovery
from chaos.report import VERDICT, Verdict
from chaos.selftest import as_markdown, main, trial_of
from chaos.verdict import CheckResult

pytestmark = pytest.mark.unit


def verdict(experiment: str, planted: str | None = None, **answers: Any) -> Verdict:
    checks = [CheckResult(check=name, claim="", answer=answers.get(name, "valid")) for name in CHECKS]
    return Verdict(experiment=experiment, answer="valid", recovery=Recovery(), checks=checks, runs=1, planted=planted)


class ToldDrill:
    """Judges as it was told to, by bug; clean code is None."""

    answers: ClassVar[dict[str | None, Mapping[str, str]]] = {}
    ran: ClassVar[list[tuple[str | None, str]]] = []

    def __init__(self, stack: str, state: Path | None, settings: object, plant: str | None, *_: object) -> None:
        self.plant = plant

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to remove."""

    def run(self, experiment: Experiment, runs: int) -> tuple[Verdict, Path]:
        self.ran.append((self.plant, experiment.name))
        default = {PLANTS[self.plant].caught_by: "invalid"} if self.plant else {}
        return verdict(experiment.name, self.plant, **self.answers.get(self.plant, default)), Path()


@pytest.fixture
def drills(monkeypatch: pytest.MonkeyPatch) -> type[ToldDrill]:
    fresh = type("Fresh", (ToldDrill,), {"answers": {}, "ran": []})
    monkeypatch.setattr(selftest, "Drill", fresh)
    return fresh


def test_every_bug_is_planted_and_clean_code_goes_through_the_same_experiments(
    drills: type[ToldDrill], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--state", str(tmp_path), "--json"]) == 0
    clean = ["region-loss", "switchover", "approval-during-failover"]
    assert drills.ran[:3] == [(None, name) for name in clean]
    assert [plant for plant, _ in drills.ran[3:]] == list(PLANTS)
    trials = json.loads(capsys.readouterr().out)
    assert all(one["holds"] for one in trials)
    assert len(trials) == 3 + len(PLANTS)


@pytest.mark.parametrize(
    "answers",
    [
        {"recovery-sweep-off": {"K2": "invalid"}},
        {"recovery-sweep-off": {"K1": "unknown"}},
        {None: {"K12": "unknown"}},
        {None: {"K5": "invalid"}},
    ],
)
def test_a_bug_that_its_checker_misses_or_clean_code_that_is_not_valid_fails_it(
    drills: type[ToldDrill], tmp_path: Path, answers: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    drills.answers.update(answers)
    assert main(["--state", str(tmp_path), "recovery-sweep-off"]) == 1
    assert drills.ran == [(None, "region-loss"), ("recovery-sweep-off", "region-loss")]
    assert ("recovery-sweep-off" if None not in answers else "clean code") in capsys.readouterr().out


def test_bugs_that_are_not_tried_now_are_told_as_they_were_tried_last(
    drills: type[ToldDrill], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for when, answer in (("1", "valid"), ("2", "invalid")):
        report = tmp_path / "planted" / "signatures-off" / "reports" / when
        report.mkdir(parents=True)
        told = verdict("region-loss", "signatures-off", K11=answer)
        (report / VERDICT).write_text(told.model_dump_json())
    written = tmp_path / "matrix.md"
    arguments = ["--state", str(tmp_path), "--no-clean", "--json", "--markdown", str(written), "wrong-root"]
    assert main(arguments) == 0
    assert {one["bug"]: one["holds"] for one in json.loads(capsys.readouterr().out)} == {
        "wrong-root": True,
        "signatures-off": True,
    }
    assert drills.ran == [("wrong-root", "region-loss")]
    rows = written.read_text().splitlines()
    assert rows[0] == f"| bug | experiment | {' | '.join(CHECKS)} |"
    assert rows[2].startswith("| `wrong-root` | region-loss | · | · |")
    assert rows[2].count("✗") == 1


def test_a_checker_that_does_not_apply_leaves_its_cell_empty() -> None:
    one = trial_of(verdict("region-loss", "wrong-root").model_copy(update={"checks": []}), PLANTS["wrong-root"])
    assert not one.holds
    assert set(as_markdown([one]).splitlines()[-1].split("|")[3:-1]) == {"  "}
    assert not trial_of(verdict("region-loss").model_copy(update={"checks": []}), None).holds


def test_a_bug_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["no-such-bug"])
    assert ended.value.code == 2
    assert "there is no bug no-such-bug" in capsys.readouterr().err
