"""What continuous integration reads of reports, and two reports side by side."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from chaos.history import History
from chaos.recovery import Recovery
from chaos.report import Report, ReportMissing, Verdict
from chaos.report.ci import answer_of, as_junit, as_markdown, plain
from chaos.report.compare import compare, write_comparison
from chaos.verdict import Answer, CheckResult
from tests.support.histories import region_loss
from tests.support.reports import report_of, twice_executed

pytestmark = pytest.mark.unit


def check(name: str, answer: Answer, *witness: str, **counts: int) -> CheckResult:
    told = {key.replace("_", "-"): value for key, value in counts.items()}
    return CheckResult(check=name, claim=f"{name} holds", answer=answer, witness=list(witness), counts=told)


def report(*checks: CheckResult, folder: str = "one", experiment: str = "region-loss", **changes: object) -> Report:
    from chaos.verdict import combined

    recovery = Recovery(detect=3.0, promote=0.5, activate=0.5, resume=1.0, rto=5.0, rpo_events=0, rpo_seconds=0.0)
    verdict = Verdict(experiment=experiment, answer=combined(checks), recovery=recovery, checks=list(checks), runs=27)
    return Report(Path("reports") / folder, verdict.model_copy(update=changes))


def parsed(junit: str) -> ElementTree.Element:
    return ElementTree.fromstring(junit)  # noqa: S314 - our own


GOOD = check("K1", "valid", ended=27)
BAD = check("K5", "invalid", "run-1:3: again", "run-2:1: again", executed_again_completed=2)
UNSURE = check("K2", "unknown", "the ledger was not read")


def test_an_invalid_check_has_failed_and_an_unknown_one_is_an_error() -> None:
    whole = parsed(as_junit([report(GOOD, BAD, UNSURE)]))
    assert {key: whole.get(key) for key in ("tests", "failures", "errors")} == {
        "tests": "3",
        "failures": "1",
        "errors": "1",
    }
    (suite,) = whole
    assert suite.get("name") == "region-loss"
    good, bad, unsure = suite
    assert [child.tag for child in good] == ["system-out"]
    assert good[0].text == "ended: 27"
    assert (bad[0].tag, bad[0].get("message"), bad[0].text) == (
        "failure",
        "run-1:3: again",
        "run-1:3: again\nrun-2:1: again",
    )
    assert (unsure[0].tag, unsure[0].get("type")) == ("error", "unknown")


def test_each_experiment_has_a_suite_and_each_repeat_cases_of_its_own() -> None:
    reports = [report(GOOD), report(GOOD, experiment="switchover"), report(BAD, folder="two")]
    planted = report(GOOD, planted="a-bug")
    whole = parsed(as_junit([*reports, planted]))
    assert [(suite.get("name"), len(suite)) for suite in whole] == [
        ("region-loss", 2),
        ("switchover", 1),
        ("region-loss with a-bug", 1),
    ]
    assert [case.get("name") for case in whole[0]] == ["K1 K1 holds (one)", "K5 K5 holds (two)"]


def test_a_report_without_a_check_passes_nowhere() -> None:
    whole = parsed(as_junit([report()]))
    assert whole.get("errors") == "1"
    assert answer_of([report()]) == answer_of([]) == "unknown"


def test_texts_that_no_xml_may_hold_are_replaced() -> None:
    hostile = "a\x00b\x1b]<&\ud800\ufffe]]>"
    whole = parsed(as_junit([report(check("K1", "invalid", hostile), experiment=hostile)]))
    assert whole[0][0][0].text == "a\ufffdb\ufffd]<&\ufffd\ufffd]]>"


def test_one_invalid_report_outweighs_one_unknown() -> None:
    assert answer_of([report(GOOD), report(UNSURE)]) == "unknown"
    assert answer_of([report(UNSURE), report(BAD), report(GOOD)]) == "invalid"
    assert answer_of([report(GOOD)]) == "valid"


def test_a_summary_tells_the_verdict_first_and_then_each_experiment() -> None:
    counted = [
        check("K2", "valid", lost=0, duplicate_applied=0),
        check("K5", "valid", executed_again_completed=0),
    ]
    slower = {"recovery": Recovery(rto=7.0)}
    text = as_markdown([report(*counted), report(*counted, folder="two", **slower), report(GOOD, experiment="other")])
    assert text.startswith("## valid: 3 of 3 reports are valid\n")
    assert "| region-loss | 2 | 0 | 0 | 6.00 s | 7.00 s | 54 | 0 | 0 | 0 |" in text
    assert "| other | 1 | 0 | 0 | 5.00 s | 5.00 s | 27 | ? | ? | ? |" in text
    assert "| check |" not in text


def test_a_summary_of_one_report_has_its_checks_and_what_is_wrong() -> None:
    text = as_markdown([report(GOOD, BAD, UNSURE, recovery=Recovery())])
    assert text.startswith("## invalid: 0 of 1 reports are valid\n")
    assert "| region-loss | 0 | 1 | 0 |  |  | 27 | ? | ? | 2 |" in text
    assert "| K5 | K5 holds | **invalid** | executed-again-completed 2 |" in text
    assert "**region-loss is invalid** in one\n\n- K5 invalid: run-1:3: again\n" in text
    assert "- K2 unknown: the ledger was not read" in text
    assert "- nothing was checked" in as_markdown([report()])


def test_text_stays_text_in_markdown() -> None:
    assert plain("a|b\n*c* <i> [x](y) @who & `d`") == ("a\\|b \\*c\\* \\<i\\> \\[x\\]\\(y\\) \\@who &amp; \\`d\\`")


def test_what_held_and_holds_is_kept() -> None:
    found = compare(report(GOOD), report(GOOD, BAD))
    assert found.answer == "valid"
    assert [row.name for row in found.changes] == ["verdict", "K5 K5 holds", "K5 executed again completed"]
    assert compare(report(GOOD), report(GOOD)).changes == []


@pytest.mark.parametrize(
    ("now", "answer"),
    [(check("K1", "invalid"), "invalid"), (check("K1", "unknown"), "unknown"), (UNSURE, "unknown")],
)
def test_what_held_and_does_not_is_worse(now: CheckResult, answer: Answer) -> None:
    found = compare(report(GOOD), report(now))
    assert found.answer == answer
    assert next(row for row in found.checks if row.name.startswith("K1")).worse


def test_where_nothing_held_nothing_can_be_kept() -> None:
    assert compare(report(BAD), report(BAD)).answer == "unknown"


def test_a_recovery_changes_only_where_it_changes_notably() -> None:
    later = Recovery(detect=3.4, promote=0.4, activate=1.5, resume=None, rto=6.0, rpo_events=2, rpo_seconds=0.0)
    found = compare(report(GOOD), report(GOOD, recovery=later))
    assert [(row.name, row.second, row.worse) for row in found.recovery if row.changed] == [
        ("activate", "1.50 s", True),
        ("resume", None, False),
        ("RTO", "6.00 s", True),
        ("RPO events", "2", False),
    ]


def test_a_comparison_is_a_page_that_leads_to_both_reports(tmp_path: Path) -> None:
    pages = [
        report_of(history, tmp_path / name) for name, history in (("a", region_loss()), ("b<i>", twice_executed()))
    ]
    one, other = (Report.load(page.parent) for page in pages)
    page = write_comparison(one, other, tmp_path / "compared.html")
    text = page.read_text()
    assert 'href="a/report.html"' in text
    assert 'href="b%3Ci%3E/report.html"' in text
    assert "<i>" not in text
    assert "▲ worse" in text
    assert "default-src &#39;none&#39;; style-src &#39;sha256-" in text
    assert "<script" not in text


def test_a_comparison_of_reports_without_a_recovery_is_made_too(tmp_path: Path) -> None:
    page = report_of(History(experiment="x"), tmp_path / "a")
    one = Report.load(page.parent)
    assert "Nothing changed" in write_comparison(one, one, tmp_path / "compared.html").read_text()


def test_a_folder_that_is_no_report_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ReportMissing, match=r"it has no verdict\.json; name a folder"):
        Report.load(tmp_path)
    (tmp_path / "verdict.json").write_text("{}")
    with pytest.raises(ReportMissing, match=r"5 errors.*holdfast report judge"):
        Report.load(tmp_path)
    report_of(region_loss(), tmp_path)
    (tmp_path / "history" / "experiment.json").unlink()
    with pytest.raises(ReportMissing, match="history can't be read"):
        _ = Report.load(tmp_path).history
