"""Which contender is asked for what, and what becomes of one that fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from infra.state import project_root
from loadtests.library import cells, contenders
from loadtests.library.cells import Figures, Scale, measure, measure_bursts, measure_steps
from loadtests.library.contenders import Contender, Program, UnmeasurableError
from loadtests.library.stack import Stack

pytestmark = pytest.mark.unit
SCALE = Scale(5, (20, 100, 300), (10, 6), (1,), (), 0, 0)


class Scripted:
    """Answers with so many seconds for each step, or fails at a length."""

    def __init__(self, seconds: float = 0.01, fails_at: int = 0) -> None:
        self.seconds, self.fails_at = seconds, fails_at

    def call(self, _: str, steps: int, runs: int = 1) -> dict[str, Any]:
        if steps == self.fails_at:
            raise UnmeasurableError("it fell over")
        return {"seconds": self.seconds * steps * runs}


def programs(**scripted: Scripted) -> dict[str, Program]:
    return cast("dict[str, Program]", scripted)


def quiet(_: str) -> None:
    pass


def test_contenders_take_turns_and_longer_runs_fewer() -> None:
    said: list[str] = []
    measure_steps(programs(plain=Scripted(), dbos=Scripted(0.02)), SCALE, Figures(), said.append)
    assert said[:3] == [
        f"one run of 20 steps, {turn} of 5: {name}" for turn, name in ((1, "plain"), (1, "dbos"), (2, "plain"))
    ]
    assert said[-1] == "one run of 300 steps, 3 of 3: dbos"


def test_a_step_is_told_in_milliseconds() -> None:
    figures = Figures()
    measure_steps(programs(plain=Scripted(0.01)), SCALE, figures, quiet)
    assert figures.ms_per_step["plain"][300] == pytest.approx([10.0] * 3)


def test_a_slow_contender_is_not_asked_for_the_longest_run() -> None:
    figures = Figures()
    measure_steps(programs(temporal=Scripted(0.2)), SCALE, figures, quiet)
    assert set(figures.ms_per_step["temporal"]) == {20, 100}


def test_a_run_that_would_stall_is_not_asked_for_and_the_reason_told() -> None:
    figures = Figures()
    measure_steps(programs(diagrid=Scripted()), SCALE, figures, quiet)
    assert set(figures.ms_per_step["diagrid"]) == {20, 100}
    assert "the run stalls" in figures.missing["diagrid, 300 steps"]


def test_one_that_fails_leaves_the_others_to_be_measured() -> None:
    figures = Figures()
    measure_steps(programs(dbos=Scripted(fails_at=20), plain=Scripted()), SCALE, figures, quiet)
    assert figures.missing["dbos, 20 steps"] == "it fell over"
    assert set(figures.ms_per_step["plain"]) == {20, 100, 300}
    measure_bursts(programs(dbos=Scripted(fails_at=6), plain=Scripted()), SCALE, figures, quiet)
    assert figures.missing["dbos, 10 runs"] == "it fell over"
    assert figures.steps_per_second == {"plain": {1: pytest.approx([100.0] * 3)}}


def test_a_contender_that_cannot_be_had_is_missing_and_the_rest_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def running(contender: Contender, *_: Any) -> Iterator[Scripted]:
        if contender.name == "temporal":
            raise UnmeasurableError("no server")
        yield Scripted()

    monkeypatch.setattr(cells, "running", running)
    figures = measure(cast("Stack", None), Path("nowhere"), SCALE, ["plain", "temporal"], quiet)
    assert figures.missing == {"temporal": "no server"}
    assert set(figures.ms_per_step) == {"plain"}
    assert (figures.burst, figures.resumed_steps) == ((10, 6), 0)
    assert set(figures.part_seconds) == {"start", "single runs", "concurrent runs"}


def test_environments_are_made_with_the_uv_of_setup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(contenders, "find_uv", asked.append)
    with pytest.raises(UnmeasurableError, match="run `make setup`"):
        contenders.interpreter(contenders.CONTENDERS["plain"], tmp_path)
    assert asked == [project_root() / ".holdfast" / "uv"]
