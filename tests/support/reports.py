"""Reports of histories by hand: a good one, one with errors, and one of many runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chaos.history import History, Record
from chaos.report import verdict_of, write_report
from tests.support.histories import FAULT_AT, RUNS, WORKER_PID, attempt, region_loss, run_id


def twice_executed() -> History:
    """A history whose second run, and later its fourth, executed again what had completed."""
    history = region_loss()
    assert history.attempts is not None
    again = {"region": "b", "pid": WORKER_PID, "epoch": 2}
    for number, late in ((2, 5.2), (4, 5.6)):
        history.attempts += [
            attempt(run_id(number), 1, "started", FAULT_AT + late, **again),
            attempt(run_id(number), 1, "ended", FAULT_AT + late + 0.1, **again),
        ]
    return history


def of_many_runs(runs: int) -> History:
    """The good history with so many runs in flight, which go on one after the other."""
    history = region_loss()
    made = History(experiment=history.experiment, faults=history.faults, events=history.events, bounds=history.bounds)
    made.attempts, made.effects, made.workflows = [], [], []
    for number in range(runs):
        shape, name, late = run_id(number % RUNS), f"run-{number:04}", (number % 97) * 0.03

        def moved(record: Record, name: str = name, late: float = late) -> dict[str, Any]:
            at = getattr(record, "at", None)
            return {"run_id": name} if at is None else {"run_id": name, "at": at + late * (at > FAULT_AT)}

        made.operations += [one.model_copy(update=moved(one)) for one in history.operations if one.run_id == shape]
        made.effects += [one.model_copy(update=moved(one)) for one in history.effects or [] if one.run_id == shape]
        made.attempts += [one.model_copy(update=moved(one)) for one in history.attempts or [] if one.run_id == shape]
        for one in history.workflows or []:
            if one.run_id == shape:
                items = [item.model_copy(update={"at": moved(item)["at"]}) for item in one.history or []]
                made.workflows.append(one.model_copy(update={"run_id": name, "history": items}))
    return made


def report_of(history: History, folder: Path) -> Path:
    """The page of the report on that history."""
    return write_report(folder, history, verdict_of(history))
