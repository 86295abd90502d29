"""What drills of runbooks measured is kept once for each direction, and told in a table made of that alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.history import ClientOperation, History
from chaos.runbooks.results import Result, StepTaken, load, render, save, without_service
from tests.support.histories import attempt

pytestmark = pytest.mark.unit


def result(**changes: object) -> Result:
    made = {
        "runbook": "region-loss",
        "active": "a",
        "at": "2026-05-01T03:00:00Z",
        "answer": "valid",
        "rto": 5.04,
        "no_service": 6.2,
        "steps": [{"title": "Look", "seconds": 1.25, "held": True}, {"title": "Mend", "seconds": 10.0, "held": True}],
    }
    return Result.model_validate(made | changes)


def start(at: float, outcome: str = "ok") -> ClientOperation:
    return ClientOperation.model_validate(
        {"run_id": "r", "ticket": {}, "invoked_at": at, "answered_at": at, "outcome": outcome, "region": "a"}
    )


def test_the_last_result_of_each_direction_is_kept(tmp_path: Path) -> None:
    save(result(rto=9.0), tmp_path)
    save(result(active="b"), tmp_path)
    table = save(result(), tmp_path)
    assert load(tmp_path) == [result(), result(active="b")]
    assert table.read_text(encoding="utf-8") == render([result(active="b"), result()])


def test_a_row_tells_times_and_what_failed() -> None:
    failed = StepTaken(title="Mend", seconds=30.0, held=False, detail="it did not")
    rows = render([result(rto=None, answer="invalid", steps=[*result().steps[:1], failed]), result()]).splitlines()[-2:]
    assert rows == [
        "| [region-loss](region-loss.md) | a | invalid |  | 6.2 s | 31.2 s | 1.2 · 30.0 ✗ | 2026-05-01 |",
        "| [region-loss](region-loss.md) | a | valid | 5.0 s | 6.2 s | 11.2 s | 1.2 · 10.0 | 2026-05-01 |",
    ]


def test_pages_without_a_result_are_told() -> None:
    told = render([result()], ["witness-loss", "region-loss", "failback"]).splitlines()[-1]
    assert told == "Not drilled yet: [failback](failback.md), [witness-loss](witness-loss.md)."
    assert "Not drilled" not in render([result()], ["region-loss"])


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "flood.json").write_text("{}")
    with pytest.raises(ValueError, match=r"flood\.json is no result of a drill .* remove it"):
        load(tmp_path)


def worked(at: float, outcome: str = "ok"):
    return attempt("run-1", 1, "ended", at, outcome=outcome)


HISTORIES = [
    ([1, 9, 11, 12, 30], [9.5, 11, 12, 13], 18.0),
    ([1, 11, 12], [11, 25], 14.0),
    ([9, 9.9], [9.9], 0.0),
]


@pytest.mark.parametrize(("starts", "work", "seconds"), HISTORIES)
def test_service_is_away_while_no_start_is_acknowledged_or_no_work_ends(
    starts: list[float], work: list[float], seconds: float
) -> None:
    history = History(
        experiment="x",
        operations=[start(at) for at in starts] + [start(20, "unknown")],
        attempts=[*map(worked, work), worked(20, "error"), attempt("run-1", 1, "started", 20)],
    )
    assert without_service(history, 10.0) == seconds
