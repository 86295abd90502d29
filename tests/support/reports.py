"""Reports of histories by hand: a good one, one with an error of each kind, and one of many runs."""

from __future__ import annotations

from pathlib import Path

from chaos.history import History
from chaos.report import verdict_of, write_report
from tests.support.histories import FAULT_AT, LOST_PID, attempt, region_loss, run_id


def twice_executed() -> History:
    """A history whose second run executed again what had completed, while nobody could say of its fourth."""
    history = region_loss()
    assert history.attempts is not None
    assert history.workflows is not None
    again = {"region": "b", "pid": 21, "epoch": 2}
    history.attempts += [
        attempt(run_id(2), 1, "started", FAULT_AT + 5.2, **again),
        attempt(run_id(2), 1, "ended", FAULT_AT + 5.3, **again),
    ]
    history.workflows[4] = history.workflows[4].model_copy(update={"status": None})
    return history


def of_many_runs(runs: int) -> History:
    """The good history with so many runs in flight, each shifted a little."""
    history = region_loss()
    assert history.attempts is not None
    assert history.effects is not None
    assert history.workflows is not None
    shapes = [run_id(number) for number in range(6)]
    made = History(experiment="region-loss", faults=history.faults, events=history.events, bounds=history.bounds)
    made.attempts, made.effects, made.workflows = [], [], []
    for number in range(runs):
        shape, name, late = shapes[number % 6], f"run-{number:04}", (number % 97) * 0.03
        changes = {"run_id": name}
        made.operations += [one.model_copy(update=changes) for one in history.operations if one.run_id == shape]
        made.effects += [one.model_copy(update=changes) for one in history.effects if one.run_id == shape]
        made.workflows += [one.model_copy(update=changes) for one in history.workflows if one.run_id == shape]
        for one in history.attempts:
            if one.run_id == shape:
                at = one.at + (late if one.pid != LOST_PID else 0.0)
                made.attempts.append(one.model_copy(update={**changes, "at": at}))
    return made


def report_of(history: History, folder: Path) -> Path:
    """The page of the report on that history."""
    return write_report(folder, history, verdict_of(history))
