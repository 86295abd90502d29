"""The same figures for a terminal, for programs, for documentation and as plots."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from loadtests.library.bars import judge
from loadtests.library.cells import Figures
from loadtests.library.report import burst_plot, show, step_plot, worker_plot, write_report
from loadtests.telling import BEGIN, END, renew

pytestmark = pytest.mark.unit

FIGURES = Figures(
    ms_per_step={
        "plain": {20: [1.0], 300: [1.5]},
        "holdfast": {20: [20.0, 22.0, 27.0], 300: [24.0]},
        "temporal": {20: [19.9]},
    },
    steps_per_second={"plain": {1: [3000.0]}, "holdfast": {1: [70.0, 80.0], 2: [90.0]}, "dbos": {1: [60.0]}},
    stored_bytes_per_step={100: 1000.0, 300: 1001.0},
    resume_seconds=[0.5],
    kept_run_bytes=102_400.0,
    evicted_run_bytes=10_240.0,
    parked={"in flight": 1000, "completed": 999},
    missing={"diagrid": "no <package>"},
    burst=(100, 6),
    resumed_steps=100,
    part_seconds={"single runs": 61.0, "resume": 20.0},
)
FIGURES.parked |= {"worker MiB waiting": 200.0, "sidecar MiB": 300.0}


def written(folder: Path) -> Path:
    return write_report(folder / "results", FIGURES, judge(FIGURES))


def test_programs_get_every_sample_and_verdict(tmp_path: Path) -> None:
    told = json.loads(written(tmp_path).with_name("results.json").read_text())
    assert told["exit_status"] == 1
    assert told["figures"]["ms_per_step"]["holdfast"]["20"] == [20.0, 22.0, 27.0]
    assert told["bars"][0] == {
        "name": "overhead per step",
        "value": 21.0,
        "sense": "≤",
        "limit": 40,
        "unit": "ms",
        "basis": "one run of 20 steps, model and tool instant",
        "verdict": "holds",
    }


def test_documentation_gets_medians_with_their_range(tmp_path: Path) -> None:
    text = written(tmp_path).with_name("results.md").read_text()
    assert "| overhead per step | 21.0 ms | ≤ 40 ms | **holds** | one run of 20 steps, model and tool instant |" in text
    assert "| pydantic_ai_dapr | 22.0 (20.0 to 27.0) | 24.0 |" in text
    assert "| of 1000 runs in flight at once, completed | 999 runs | ≥ 1000 runs | **does not hold** |" in text
    assert "| all | 81 |" in text
    assert "- Not measured: diagrid: no <package>" in text


def test_a_terminal_gets_verdicts_and_what_is_missing() -> None:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show(console, FIGURES, judge(FIGURES))
    text = console.export_text()
    assert "does not hold" in text
    assert "unmeasured" in text
    assert "not measured: diagrid: no <package>" in text


def test_the_page_needs_nothing_else_and_escapes_what_it_is_told(tmp_path: Path) -> None:
    page = written(tmp_path).read_text()
    assert "no &lt;package&gt;" in page
    assert not any(word in page for word in ("http:", "https:", "<script", "<link", "@import"))
    for svg in page.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + svg.split("</svg>")[0] + "</svg>")  # noqa: S314  # made here
    assert page.count("<svg") == 3


def test_a_page_of_nothing_has_no_plots(tmp_path: Path) -> None:
    figures = Figures(missing={"plain": "no network"})
    page = write_report(tmp_path, figures, judge(figures)).read_text()
    assert "<svg" not in page
    assert "no network" in page


def test_less_time_is_lower_and_a_longer_run_further_right() -> None:
    plot = step_plot(FIGURES.ms_per_step)
    assert plot is not None
    plain, ours = ({one.name: one for one in plot.series}[name] for name in ("plain", "holdfast"))
    assert plain.points[0].y > ours.points[0].y
    assert ours.points[0].x < ours.points[1].x
    assert ours.points[0].low > ours.points[0].y > ours.points[0].high


def test_labels_of_contenders_do_not_lie_upon_each_other() -> None:
    plot = step_plot({"holdfast": {20: [20.0]}, "dbos": {20: [20.0]}, "temporal": {20: [20.1]}})
    assert plot is not None
    places = [one.label_y for one in plot.series]
    assert all(later - earlier >= 15 for earlier, later in itertools.pairwise(places))


def test_bars_of_throughput_leave_out_the_agent_that_keeps_nothing() -> None:
    plot = burst_plot(FIGURES.steps_per_second)
    assert plot is not None
    assert [one.name for one in plot.series] == ["holdfast", "dbos"]
    assert plot.series[0].points[0].x > plot.series[1].points[0].x


def test_workers_are_compared_where_there_are_several_counts() -> None:
    plot = worker_plot(FIGURES.steps_per_second["holdfast"])
    assert plot is not None
    assert [one.label for one in plot.series] == ["1 worker", "2 workers"]
    assert worker_plot({1: [60.0]}) is None


def test_a_documentation_page_is_renewed_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nearlier\n{END}\nafter\n")
    write_report(tmp_path / "results", FIGURES, judge(FIGURES), page)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\nMeasured ")
    assert text.endswith(f"\n{END}\nafter\n")
    assert "earlier" not in text


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match="has no place for results: put `<!-- results -->`"):
        renew(page, "new")
