"""The fault matrix is what reports say: every row, every repeat, and what is lacking."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from chaos import checkout
from chaos.checkout import version
from chaos.experiment import EXPERIMENTS, read
from chaos.matrix import ROWS, Standing, covering, lacking, reports_in, standings
from chaos.recovery import Recovery
from chaos.report import Report, Verdict
from chaos.report.matrix import as_page
from chaos.verdict import Answer, CheckResult

pytestmark = pytest.mark.unit
LOSS, SWITCH = read("region-loss"), read("switchover")


def report(
    answer: Answer, number: int = 1, experiment: str = "region-loss", version: str | None = "abc", **changes: object
) -> Report:
    checks = [
        CheckResult(check="K1", claim="runs end", answer=answer, counts={"accepted": 30, "ended": 29}, witness=["r-1"]),
        CheckResult(check="K2", claim="once", answer="valid", counts={"duplicate-applied": 0}),
        CheckResult(check="K5", claim="never again", answer="valid", counts={"executed-again-completed": 0}),
    ]
    recovery = Recovery(rto=4.0 + number, rpo_events=0)
    verdict = Verdict(experiment=experiment, answer=answer, recovery=recovery, checks=checks, runs=30, version=version)
    return Report(Path(f"20261125T02{number:02}00-{experiment}"), verdict.model_copy(update=changes))


def written(folder: Path, one: Report) -> Path:
    place = folder / one.folder.name
    place.mkdir(parents=True)
    (place / "verdict.json").write_text(one.verdict.model_dump_json())
    return place


def line(page: str, start: str) -> str:
    (found,) = [one for one in page.splitlines() if one.startswith(start)]
    return found


def test_every_experiment_covers_rows_that_there_are_and_every_row_is_covered_or_says_why_not() -> None:
    known = {row.name for row in ROWS}
    assert all(known.issuperset(read(name).rows) for name in EXPERIMENTS)
    assert [row.name for row in ROWS if not covering(row) and not row.beside] == []


@pytest.mark.parametrize(
    ("reports", "answer"),
    [
        ([], "unknown"),
        ([report("valid")] * 2, "unknown"),
        ([report("invalid")], "invalid"),
        ([report("valid")] * 3, "valid"),
        ([report("valid"), report("unknown"), report("valid")], "unknown"),
        ([report("invalid", version="old"), *[report("valid")] * 3], "valid"),
        ([report("invalid"), *[report("valid")] * 3], "invalid"),
        ([report("invalid", version=None), *[report("valid", version=None)] * 3], "invalid"),
        ([report("invalid", version="old"), report("valid", version="old"), *[report("valid")] * 2], "invalid"),
    ],
)
def test_what_is_not_valid_stands_until_other_code_was_valid_as_often(reports: list[Report], answer: Answer) -> None:
    assert Standing(LOSS, reports, 3).answer == answer


def test_what_was_seen_least_is_run_first_and_nothing_because_of_its_answer() -> None:
    reports = [report("valid", 1), report("invalid", 2), report("unknown", 3, "switchover")]
    found = lacking(standings([LOSS, SWITCH, read("herd")], reports, 3))
    assert [one.name for one in found] == ["herd", "switchover", "herd", "region-loss", "switchover", "herd"]


def test_reports_are_read_from_folders_by_age_without_planted_bugs(tmp_path: Path) -> None:
    second = written(tmp_path / "reports", report("valid", 2))
    first = written(tmp_path / "by-hand", report("valid", 1))
    written(tmp_path / "reports", report("invalid", 3, planted="a-bug"))
    broken = tmp_path / "reports" / "20261125T030000-herd"
    broken.mkdir()
    (tmp_path / "reports" / "notes.txt").touch()
    found, begun = reports_in([tmp_path / "reports", first, tmp_path / "by-hand", second])
    assert [one.folder for one in found] == [first, second]
    assert begun == [broken]


def test_the_page_tells_every_repeat_and_every_row() -> None:
    reports = [report("valid", 1), report("invalid", 2), report("unknown", 3, "switchover"), report("valid", 4)]
    page = as_page(standings([LOSS, SWITCH, read("herd")], reports), reports)
    assert "**0 of 3 must-experiments stand as valid**, 1 as invalid, 2 as unknown." in page
    assert "4 reports from 2026-11-25 02:01 to 2026-11-25 02:04 UTC: 2 valid, 1 invalid, 1 unknown." in page
    assert "120 runs accepted, 4 not ended; 0 effects applied twice, 0 completed operations run again." in page
    link = "[`region-loss`](../chaos/experiments/region-loss.yaml)"
    assert line(page, "| R1 |").endswith(
        f"[`herd`](../chaos/experiments/herd.yaml) –, {link} ✓ ✗ ✓ | **invalid**, 3 repeats lacking |"
    )
    assert line(page, f"| {link}") == f"| {link} | ✓ ✗ ✓ | 6.00 | 8.00 | 0 | 90 | 3 | 0 | 0 | abc | **invalid** |"
    assert line(page, "| [`herd`]").split(" | ")[1] == "none"
    assert "**region-loss is invalid** in 20261125T020200-region-loss\n\n- K1 invalid: r-1\n- version abc" in page
    assert "**switchover is unknown**" in page
    assert line(page, "| C1 |").endswith("| no experiment |")
    for row in ROWS:
        assert line(page, f"| {row.name} |")


def test_the_page_tells_what_lies_beside_the_matrix_and_what_was_broken_off() -> None:
    reports = [report("valid", 1, "nemesis-7", version=None)]
    page = as_page(standings([LOSS], reports), reports, [Path("20261125T030000-herd")])
    assert "## Beside the matrix" in page
    assert line(page, "| nemesis-7").endswith("| not recorded |")
    assert "(../TRACK_RECORD.md).\n\nNothing." in page
    assert "- 20261125T030000-herd" in page


def test_many_repeats_alike_are_told_by_their_number() -> None:
    reports = [*[report("valid", number) for number in range(30)], report("unknown", 31)]
    assert "✓×30 ?" in as_page(standings([LOSS], reports), reports)


def test_what_nobody_counted_is_no_zero() -> None:
    bare = report("unknown", checks=[], recovery=Recovery())
    page = as_page(standings([LOSS], [bare]), [bare])
    assert line(page, "| [`region-loss`]").split(" | ")[2:9] == ["", "", "?", "?", "?", "?", "?"]


def test_reports_without_a_time_in_their_name_have_none() -> None:
    bare = Report(Path("by-hand"), report("valid").verdict)
    assert "1 reports: 1 valid" in as_page(standings([LOSS], [bare]), [bare])


def repository(folder: Path) -> Path:
    (folder / "app").mkdir(parents=True)
    (folder / "docs").mkdir()
    for name in ("app/code.py", "docs/page.md"):
        (folder / name).write_text("one\n")
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.com"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "One"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def test_a_version_is_the_commit_marked_where_tested_code_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = repository(tmp_path / "checkout")
    monkeypatch.setattr(checkout, "project_root", lambda: root)
    commit = version()
    assert commit is not None
    assert len(commit) >= 10
    (root / "docs" / "page.md").write_text("two\n")
    assert version() == commit
    (root / "app" / "code.py").write_text("two\n")
    assert version() == f"{commit}+"


def test_without_a_checkout_or_without_git_there_is_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(checkout, "project_root", lambda: tmp_path)
    assert version() is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert version() is None
