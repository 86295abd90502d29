"""A report is judged again from what was recorded: without a deployment, without Chaos Toolkit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from holdfast.cli import main

from chaos.history import Bounds, History
from chaos.judging import NotJudgedError, judge_again
from chaos.report import PAGE, VERDICT, Verdict, verdict_of, write_report
from infra.state import project_root
from tests.support.histories import region_loss

pytestmark = pytest.mark.unit


def invoked(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["report", "judge", *map(str, arguments)])


def written(folder: Path, history: History, planted: str | None = None) -> Path:
    folder.mkdir(parents=True)
    write_report(folder, history, verdict_of(history, planted))
    return folder


def with_an_open_run() -> History:
    history = region_loss()
    assert history.workflows is not None
    history.workflows[0] = history.workflows[0].model_copy(update={"status": "running"})
    return history


def without_proofs() -> History:
    history = region_loss()
    history.proofs = None
    return history


def test_a_report_that_says_the_same_today_is_valid(tmp_path: Path) -> None:
    told = invoked(written(tmp_path / "report", region_loss()))
    assert told.exit_code == 0
    assert told.output.startswith("valid")
    assert "before" not in told.output


@pytest.mark.parametrize(("history", "code"), [(with_an_open_run, 1), (without_proofs, 2)])
def test_the_exit_code_tells_the_worst_answer(tmp_path: Path, history: object, code: int) -> None:
    assert callable(history)
    written(tmp_path / "reports" / "good", region_loss())
    written(tmp_path / "reports" / "other", history())
    assert invoked(tmp_path / "reports").exit_code == code


def old_verdict(folder: Path) -> None:
    """As an older bench wrote it: it had no K6, and found K1 unknown."""
    verdict = Verdict.model_validate_json((folder / VERDICT).read_text())
    checks = [one.model_copy(update={"answer": "unknown"}) if one.check == "K1" else one for one in verdict.checks]
    kept = [one for one in checks if one.check != "K6"]
    (folder / VERDICT).write_text(verdict.model_copy(update={"checks": kept, "answer": "unknown"}).model_dump_json())


def test_what_checkers_say_otherwise_today_is_shown(tmp_path: Path) -> None:
    folder = written(tmp_path / "report", region_loss(), planted="a-bug")
    old_verdict(folder)
    told = invoked(folder)
    assert told.exit_code == 0
    assert "valid, unknown before, planted a-bug" in told.output
    assert [word for word in ("K1", "K6", "K2") if word in told.output] == ["K1", "K6"]
    as_json = json.loads(invoked(folder, "--json").stdout)
    (judged,) = as_json["judged"]
    assert (as_json["answer"], judged["before"]) == ("valid", "unknown")
    assert judged["changes"] == [
        {"check": "K1", "before": "unknown", "now": "valid"},
        {"check": "K6", "before": None, "now": "valid"},
    ]
    assert judged["verdict"]["planted"] == "a-bug"


def test_a_verdict_is_replaced_only_where_that_is_asked(tmp_path: Path) -> None:
    folder = written(tmp_path / "report", region_loss())
    old_verdict(folder)
    before = (folder / VERDICT).read_text()
    invoked(folder)
    assert (folder / VERDICT).read_text() == before
    (folder / PAGE).unlink()
    invoked(folder, "--write")
    assert Verdict.model_validate_json((folder / VERDICT).read_text()) == verdict_of(region_loss())
    assert (folder / PAGE).exists()


def test_the_witness_of_what_is_wrong_is_told(tmp_path: Path) -> None:
    told = invoked(written(tmp_path / "report", with_an_open_run()))
    assert "K1 run-00: still running" in told.output


def test_a_history_alone_can_be_judged_and_so_can_one_with_a_verdict_that_is_not_understood(tmp_path: Path) -> None:
    folder = written(tmp_path / "report", region_loss())
    assert judge_again(folder / "history").before is None
    assert judge_again(folder / "history").now.answer == "valid"
    (folder / VERDICT).write_text("{}")
    found = judge_again(folder)
    assert (found.before, found.changes, found.now.answer) == (None, [], "valid")


def test_a_folder_in_which_nothing_was_recorded_is_refused(tmp_path: Path) -> None:
    told = invoked(tmp_path)
    assert told.exit_code == 2
    assert "has no recorded history" in told.output
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "experiment.json").write_text("[]")
    with pytest.raises(NotJudgedError, match="can't be read as a history"):
        judge_again(tmp_path)


def test_a_report_of_before_the_newer_evidence_is_judged_by_what_it_has(tmp_path: Path) -> None:
    history = region_loss()
    history.bounds = Bounds(minimum_in_flight=6, minimum_in_doubt=1)
    folder = written(tmp_path / "report", history)
    head = json.loads((folder / "history" / "experiment.json").read_text())
    old = {"experiment": head["experiment"], "bounds": {"minimum_in_flight": 6, "minimum_in_doubt": 1}}
    (folder / "history" / "experiment.json").write_text(json.dumps(old))
    for name in ("signals", "observations", "roles", "replays", "proofs"):
        (folder / "history" / f"{name}.jsonl").unlink()
    checks = [one.check for one in judge_again(folder).now.checks]
    assert checks == ["K1", "K2", "K3", "K4", "K5", "K7", "K9", "K10", "K12", "K13", "C"]


def test_no_chaos_toolkit_is_needed(tmp_path: Path) -> None:
    folder = written(tmp_path / "report", region_loss())
    code = (
        "import sys; sys.modules['chaoslib'] = None\n"
        "from holdfast.cli import main\n"
        f"main(['report', 'judge', {str(folder)!r}])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=project_root(), capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.split()[0]) == (0, "valid"), ran.stderr
