"""How recoveries spread over many repeats: figures that were seen, a chart that shows each, and a bar."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from chaos.recovery import Recovery
from chaos.report import Report, Verdict
from chaos.report.spread import Spread, as_chart, as_page, slower_than_asked, spreads, write_page
from chaos.verdict import Answer

pytestmark = pytest.mark.unit


def verdict(rto: float | None, answer: Answer = "valid", experiment: str = "region-loss", **phases: float) -> Verdict:
    recovery = Recovery(rto=rto, **phases)  # type: ignore[arg-type]
    return Verdict(experiment=experiment, answer=answer, recovery=recovery, checks=[], runs=24, version="abc")


def of_phases(rto: float) -> Verdict:
    return verdict(rto, detect=rto - 1.5, promote=0.5, activate=0.4, resume=0.6)


def reports(*verdicts: Verdict) -> list[Report]:
    return [Report(Path(f"{number}-drill"), one) for number, one in enumerate(verdicts)]


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([1.0], 0.95, 1.0),
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0),
        ([float(n) for n in range(1, 21)], 0.95, 19.0),
        ([float(n) for n in range(1, 31)], 0.95, 29.0),
        ([float(n) for n in range(1, 1001)], 0.95, 950.0),
    ],
)
def test_a_quantile_is_a_value_that_was_seen(values: list[float], share: float, expected: float) -> None:
    assert Spread("rto", values).quantile(share) == expected


def test_a_phase_that_no_repeat_saw_is_left_out_and_one_that_some_saw_says_in_how_many() -> None:
    crashed = Verdict(
        experiment="worker-crash", answer="valid", recovery=Recovery(moved=[0.4, 0.2]), checks=[], runs=24
    )
    found = {one.name: one.values for one in spreads([of_phases(6.0), verdict(5.0), crashed])}
    assert found["rto"] == [5.0, 6.0]
    assert found["detect"] == [4.5]
    assert found["each run moved"] == [0.2, 0.4]
    assert list({one.name: one for one in spreads([verdict(None)])}) == []


def test_a_recovery_is_too_slow_where_its_p95_is_over_its_bar() -> None:
    fast, slow = [verdict(9.9)] * 19 + [verdict(30.0)], [verdict(9.9)] * 18 + [verdict(30.0)] * 2
    assert slower_than_asked("region-loss", fast) is False
    assert slower_than_asked("region-loss", slow) is True
    assert slower_than_asked("herd", slow) is None
    assert slower_than_asked("region-loss", [verdict(None)]) is None


def test_the_page_tells_every_repeat_whatever_its_verdict() -> None:
    page = as_page(reports(of_phases(5.0), of_phases(6.0), verdict(None, "unknown")), "holdfast drill")
    assert "3 repeats: 2 valid, 0 invalid, 1 unknown. Version abc. p95 is asked to be at most 10 s: it is." in page
    assert "| rto | 5.00 | 5.00 | 6.00 | 6.00 | 2 |" in page
    assert "- unknown: 2-drill" in page
    assert "images/recovery-region-loss.svg" in page
    assert "**it is not**" in as_page(reports(verdict(11.0)), "")
    assert "asked" not in as_page(reports(verdict(11.0, experiment="herd")), "")


def test_the_chart_has_a_column_for_each_repeat_of_its_phases_the_fastest_first() -> None:
    svg = as_chart("region-loss", [of_phases(6.0), verdict(5.0), verdict(None)])
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own
    name = "{http://www.w3.org/2000/svg}"
    titles = [one.text for one in root.iter(f"{name}title")]
    assert titles == ["5.00 s", "6.00 s: detect 4.50, promote 0.50, activate 0.40, resume 0.60"]
    assert "2 of 3 repeats" in svg
    assert "asked 10 s" in svg
    heights = [float(one.get("height", "")) for one in root.iter(f"{name}rect") if one.get("class") in ("whole",)]
    phases = [
        (float(one.get("y", "")), float(one.get("height", "")))
        for one in root.iter(f"{name}rect")
        if one.get("class") in ("detect", "promote", "activate", "resume") and one.get("rx") is None
    ]
    assert sum(height for _, height in phases) / heights[0] == pytest.approx(6.0 / 5.0, rel=0.01)
    # Each phase stands on the one before.
    assert [y for y, _ in phases[:-1]] == pytest.approx([y + height for y, height in phases[1:]], abs=0.2)


def test_a_chart_of_nothing_is_one_without_columns() -> None:
    svg = as_chart("herd", [verdict(None)])
    assert "0 of 1 repeats" in svg
    assert "p95" not in svg
    assert "asked" not in svg


def test_the_page_has_its_charts_beside_it(tmp_path: Path) -> None:
    given = reports(of_phases(5.0), verdict(6.0, experiment="switchover"))
    write_page(given, tmp_path / "docs" / "recovery.md", "holdfast drill")
    assert (tmp_path / "docs" / "images" / "recovery-switchover.svg").read_text().startswith("<svg")
    assert "(images/recovery-region-loss.svg)" in (tmp_path / "docs" / "recovery.md").read_text()
