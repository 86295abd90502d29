"""`holdfast report`: summing up and comparing reports, with exit codes that scripts can use."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from holdfast.cli import main
from refund_desk import oracle

from chaos.history import History
from tests.support.histories import region_loss, remembered
from tests.support.reports import report_of, twice_executed

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _the_oracle_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "decide", remembered)


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    folder = tmp_path / "reports"
    report_of(region_loss(), folder / "1-good")
    report_of(twice_executed(), folder / "2-bad")
    return folder


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def test_a_folder_of_reports_is_summed_up(reports: Path, tmp_path: Path) -> None:
    junit, markdown = tmp_path / "junit.xml", tmp_path / "summary.md"
    answer = call("summary", reports, "--junit", junit, "--markdown", markdown)
    assert answer.exit_code == 1
    assert "2-bad" in answer.output
    assert "1-good" not in answer.output
    assert ElementTree.parse(junit).getroot()[0].get("failures") == "1"  # noqa: S314 - our own
    assert markdown.read_text().startswith("## invalid: 1 of 2")


def test_one_report_is_summed_up(reports: Path) -> None:
    assert call("summary", reports / "1-good").exit_code == 0


def test_what_could_not_be_checked_has_an_exit_code_of_its_own(reports: Path) -> None:
    report_of(History(experiment="x"), reports / "3-nothing")
    answer = call("summary", reports / "1-good", reports / "3-nothing", "--json")
    assert answer.exit_code == 2
    assert json.loads(answer.output) == {
        "ok": False,
        "answer": "unknown",
        "reports": 2,
        "experiments": {
            "region-loss": {"valid": 1, "invalid": 0, "unknown": 0},
            "x": {"valid": 0, "invalid": 0, "unknown": 1},
        },
    }


def test_a_folder_without_a_report_is_refused(reports: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert call("summary", empty).exit_code == 2
    (reports / "4-interrupted").mkdir()
    answer = call("summary", reports)
    assert answer.exit_code == 2
    assert "4-interrupted is no report" in answer.output


def test_two_reports_are_compared(reports: Path, tmp_path: Path) -> None:
    answer = call("compare", reports / "1-good", reports / "2-bad")
    assert answer.exit_code == 1
    assert "worse" in answer.output
    assert (reports / "2-bad" / "compared.html").exists()
    page = tmp_path / "page.html"
    told = json.loads(call("compare", reports / "2-bad", reports / "1-good", "--out", page, "--json").output)
    assert (told["answer"], told["page"]) == ("valid", str(page))
    assert "nothing changed" in call("compare", reports / "1-good", reports / "1-good").output


def test_recoveries_of_all_reports_are_shown_with_their_page(reports: Path, tmp_path: Path) -> None:
    answer = call("recovery", reports, "--page", tmp_path / "recovery.md")
    assert answer.exit_code == 1
    assert "p95" in answer.output
    page = (tmp_path / "recovery.md").read_text()
    assert "holdfast drill region-loss --repeat 2\nholdfast report recovery" in page
    assert "2 repeats: 1 valid, 1 invalid, 0 unknown" in page


def test_recoveries_are_told_to_programs(reports: Path) -> None:
    answer = call("recovery", reports / "1-good", "--json")
    assert answer.exit_code == 0
    told = json.loads(answer.output)["experiments"]["region-loss"]
    assert (told["repeats"], told["answers"]["valid"]) == (1, 1)
    assert told["seconds"]["rto"] == {"min": 5.0, "p50": 5.0, "p95": 5.0, "max": 5.0, "n": 1}


def test_recoveries_of_which_there_is_no_report_are_unknown(reports: Path) -> None:
    assert call("recovery", reports, "--experiment", "herd").exit_code == 2
