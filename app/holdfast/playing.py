"""Runs experiments one after the other, with an estimate of the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from holdfast.drill import show
from holdfast.options import UNCHECKED, emit, fails_as, refuse

if TYPE_CHECKING:
    from chaos.drill import Drill
    from chaos.experiment import Experiment
    from chaos.report import Verdict

__all__ = ["each", "play"]

_STYLES = {"valid": "bold green", "invalid": "bold red", "unknown": "bold yellow"}


def play(experiments: Sequence[Experiment], runs: int, stack: str, state: Path | None, json_: bool) -> NoReturn:
    """Run these, print what the checkers said, and exit with the worst answer."""
    from chaos.drill import Drill
    from chaos.faults import NotLiftedError
    from chaos.report import PAGE
    from chaos.verdict import EXIT_CODES, worst

    console = Console(stderr=json_)
    verdicts: list[Verdict] = []
    folders: list[Path] = []
    try:
        with fails_as(json_), Drill(stack, state, {}, None, False, console) as prepared:
            for verdict, folder in each(prepared, experiments, runs, console):
                verdicts.append(verdict)
                folders.append(folder)
                show(verdict, folder / PAGE, console)
    except (NotLiftedError, TimeoutError) as error:
        refuse(UNCHECKED, f"{error}; `holdfast up` repairs the deployment", json_=json_)
    answer = worst(verdict.answer for verdict in verdicts)
    if len(verdicts) > 1:
        _summary(verdicts, folders, console)
    if json_:
        told = [verdict.model_dump(mode="json") for verdict in verdicts]
        emit({"ok": answer == "valid", "answer": answer, "verdicts": told, "reports": [str(one) for one in folders]})
    sys.exit(EXIT_CODES[answer])


def each(
    prepared: Drill, experiments: Sequence[Experiment], runs: int, console: Console, *, mends: bool = False
) -> Iterator[tuple[Verdict, Path]]:
    """The verdict and the report of each, as soon as it is there.

    With `mends`, the deployment that one of them leaves broken is repaired, and the others go on. Raises TimeoutError
    or NotLiftedError where it is not whole.
    """
    from chaos.durations import Durations
    from chaos.faults import NotLiftedError

    durations = Durations(prepared.state)
    for number, experiment in enumerate(experiments):
        left = durations.left(experiments[number:])
        title = f"{experiment.name}: {number + 1} of {len(experiments)}, about {_minutes(left)} left"
        console.rule(title)
        began = time.monotonic()
        try:
            prepared.wait_healthy()
            answer = prepared.run(experiment, runs)
        except (NotLiftedError, TimeoutError) as error:
            if not mends:
                raise
            console.print(f"[bold yellow]not judged[/]: {escape(str(error))}", highlight=False, soft_wrap=True)
            prepared.repair()
            continue
        durations.note(experiment.name, time.monotonic() - began)
        yield answer


def _summary(verdicts: Sequence[Verdict], folders: Sequence[Path], console: Console) -> None:
    table = Table("experiment", "verdict", "not valid", "RTO", "report")
    for verdict, folder in zip(verdicts, folders, strict=True):
        wrong = ", ".join(f"{check.check} {check.answer}" for check in verdict.checks if check.answer != "valid")
        rto = f"{verdict.recovery.rto:.2f} s" if verdict.recovery.rto is not None else ""
        style = _STYLES[verdict.answer]
        table.add_row(verdict.experiment, f"[{style}]{verdict.answer}[/]", wrong, rto, folder.name)
    console.print(table)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
