"""A bar is judged on what was measured, and never without it."""

from __future__ import annotations

import pytest

from loadtests.library.bars import Bar, exit_status, judge, overhead
from loadtests.library.cells import Figures

pytestmark = pytest.mark.unit


def good_figures() -> Figures:
    """Figures by which every bar holds."""
    return Figures(
        ms_per_step={
            "plain": {20: [1.0, 1.0, 9.0], 300: [2.0]},
            "holdfast": {20: [21.0, 90.0, 20.0], 300: [26.0]},
            "dbos": {20: [17.0], 300: [20.0]},
            "diagrid": {20: [121.0], 100: [300.0]},
        },
        steps_per_second={"holdfast": {1: [70.0, 80.0, 75.0], 2: [90.0]}, "dbos": {1: [60.0]}},
        stored_bytes_per_step={100: 1000.0, 200: 1050.0, 300: 1090.0},
        resume_seconds=[0.5, 3.0, 0.6],
        kept_run_bytes=100_000.0,
        evicted_run_bytes=20_000.0,
        parked={"in flight": 1000, "completed": 1000, "worker MiB waiting": 200.0, "sidecar MiB": 300.0},
        burst=(100, 6),
        resumed_steps=100,
    )


def bar(figures: Figures, name: str) -> Bar:
    (found,) = [bar for bar in judge(figures) if name in bar.name]
    return found


def test_good_figures_hold_every_bar() -> None:
    bars = judge(good_figures())
    assert [bar.verdict for bar in bars] == ["holds"] * 9
    assert exit_status(bars) == 0


def test_an_overhead_is_the_median_less_that_of_the_agent_alone() -> None:
    assert overhead(good_figures(), "holdfast", 20) == 20.0


def test_what_was_not_measured_of_either_has_no_overhead() -> None:
    assert overhead(good_figures(), "holdfast", 100) is None
    assert overhead(good_figures(), "temporal", 20) is None


def test_bars_of_ratios_compare_overheads_of_one_run() -> None:
    assert bar(good_figures(), "per step, against DBOS's").value == pytest.approx(1.25)
    assert bar(good_figures(), "against diagrid's").value == pytest.approx(20 / 120)
    assert bar(good_figures(), "at 300 steps").value == pytest.approx(24 / 20)


def slow_step(figures: Figures) -> None:
    figures.ms_per_step["holdfast"][20] = [41.1]


def near_the_competitor(figures: Figures) -> None:
    figures.ms_per_step["diagrid"][20] = [58.0]


def quick_peer(figures: Figures) -> None:
    figures.ms_per_step["dbos"][20] = [8.9]


def slow_end(figures: Figures) -> None:
    figures.ms_per_step["holdfast"][300] = [33.0]


def growing_history(figures: Figures) -> None:
    figures.stored_bytes_per_step[300] = 1101.0


def low_throughput(figures: Figures) -> None:
    figures.steps_per_second["dbos"][1] = [75.1]


def slow_resume(figures: Figures) -> None:
    figures.resume_seconds = [0.1, 1.01, 2.0]


def nothing_evicted(figures: Figures) -> None:
    figures.evicted_run_bytes = 100_001.0


def stuck_run(figures: Figures) -> None:
    figures.parked["completed"] = 999


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (slow_step, "overhead per step"),
        (near_the_competitor, "overhead per step, against diagrid's"),
        (quick_peer, "overhead per step, against DBOS's"),
        (slow_end, "overhead per step at 300 steps, against that at 20"),
        (growing_history, "spread of stored bytes per step, up to 300 steps"),
        (low_throughput, "steps per second of 100 concurrent runs on one worker, against DBOS's"),
        (slow_resume, "cold resume of a run of 100 steps"),
        (nothing_evicted, "memory of an evicted run, against that of a kept one"),
        (stuck_run, "of 1000 runs in flight at once, completed"),
    ],
)
def test_one_spoiled_figure_fails_its_bar(spoil: object, name: str) -> None:
    figures = good_figures()
    assert callable(spoil)
    spoil(figures)
    bars = judge(figures)
    assert name in [bar.name for bar in bars if bar.verdict == "does not hold"]
    assert exit_status(bars) == 1


def test_nothing_measured_is_nothing_judged() -> None:
    bars = judge(Figures())
    assert {bar.verdict for bar in bars} == {"unmeasured"}
    assert exit_status(bars) == 2


def test_a_bar_that_fails_outweighs_one_that_is_unmeasured() -> None:
    figures = good_figures()
    slow_step(figures)
    del figures.ms_per_step["dbos"]
    assert exit_status(judge(figures)) == 1


@pytest.mark.parametrize("name", ["resume", "100 concurrent", "evicted", "in flight", "stored bytes"])
def test_a_smaller_scale_does_not_judge_bars_of_the_full_one(name: str) -> None:
    figures = good_figures()
    figures.burst, figures.resumed_steps, figures.parked["in flight"] = (10, 3), 20, 40
    figures.stored_bytes_per_step = {40: 1000.0, 80: 1000.0}
    assert bar(figures, name).verdict == "unmeasured"
    assert bar(figures, name).basis == "not measured at this scale"


def test_a_bar_without_a_figure_says_who_was_not_asked() -> None:
    figures = good_figures()
    del figures.ms_per_step["diagrid"]
    assert bar(figures, "against diagrid's").basis == "not asked for: diagrid"


def test_runs_that_were_not_released_still_tell_their_memory() -> None:
    figures = good_figures()
    del figures.parked["completed"]
    figures.missing = {"holdfast, runs in flight": "no answer"}
    assert bar(figures, "evicted").verdict == "holds"
    assert bar(figures, "in flight").basis == "holdfast, runs in flight: no answer"


def test_a_bar_without_a_figure_says_what_failed() -> None:
    figures = good_figures()
    figures.ms_per_step["dbos"] = {}
    figures.missing = {"dbos, 20 steps": "no answer", "temporal": "no server"}
    assert bar(figures, "overhead per step, against DBOS's").basis == "dbos, 20 steps: no answer"
