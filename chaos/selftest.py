"""Shows that the bench catches bugs: `python -m chaos.selftest [BUG…]` plants each, and prints who caught it.

Clean code goes through the same experiments first, and must be valid. Each bug has a deployment of its own, which
takes about a minute and a half. Exit codes: 0 every bug is caught by its checker, 1 one is not, 2 not to be told.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from chaos.checks import CHECKS
from chaos.drill import Drill
from chaos.experiment import read
from chaos.plants import PLANTS, Plant
from chaos.report import VERDICT, Verdict
from infra.state import state_directory

CLEAN = "clean code"
RUNS = 24
MARKS = {"valid": "[dim]·[/]", "invalid": "[bold red]✗[/]", "unknown": "[yellow]?[/]"}


@dataclass(frozen=True)
class Trial:
    """What the checkers said of an experiment on code with a bug, or without one."""

    bug: str
    experiment: str
    expected: str | None
    """The checker that is to catch it."""
    answers: Mapping[str, str]

    @property
    def holds(self) -> bool:
        """Whether the bug was caught by its checker, or clean code was called valid."""
        if self.expected is None:
            return bool(self.answers) and set(self.answers.values()) == {"valid"}
        return self.answers.get(self.expected) == "invalid"


def trial_of(verdict: Verdict, plant: Plant | None) -> Trial:
    """The trial that a verdict makes."""
    answers = {check.check: check.answer for check in verdict.checks}
    if plant is None:
        return Trial(CLEAN, verdict.experiment, None, answers)
    return Trial(plant.name, verdict.experiment, plant.caught_by, answers)


def earlier(state: Path, plant: Plant) -> Trial | None:
    """The last trial of a bug in this state directory."""
    found = sorted((state / "planted" / plant.name / "reports").glob(f"*/{VERDICT}"))
    return trial_of(Verdict.model_validate_json(found[-1].read_bytes()), plant) if found else None


def matrix(trials: Sequence[Trial]) -> Table:
    """Bug × checker: who called it invalid (✗), who could not tell (?)."""
    table = Table("bug", "experiment", *CHECKS, "caught by", title="Planted bugs and the checkers that catch them")
    for one in trials:
        marks = (MARKS.get(one.answers.get(check, ""), "") for check in CHECKS)
        told = "valid" if one.expected is None else one.expected
        table.add_row(one.bug, one.experiment, *marks, f"[{'green' if one.holds else 'bold red'}]{told}[/]")
    return table


def as_markdown(trials: Sequence[Trial]) -> str:
    """The same, for documentation."""
    marks = {"valid": "·", "invalid": "**✗**", "unknown": "?"}
    lines = [f"| bug | experiment | {' | '.join(CHECKS)} |", f"|---|---|{'---|' * len(CHECKS)}"]
    for one in trials:
        cells = (marks.get(one.answers.get(check, ""), "") for check in CHECKS)
        lines.append(f"| `{one.bug}` | {one.experiment} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Plant bugs, judge, print."""
    parser = argparse.ArgumentParser(prog="python -m chaos.selftest", description=__doc__)
    parser.add_argument("bugs", nargs="*", metavar="BUG", help="only these; the others as they were tried last")
    parser.add_argument("--state", type=Path, default=None, help="the state directory, as for `holdfast`")
    parser.add_argument("--no-clean", action="store_true", help="leave out the experiments on clean code")
    parser.add_argument("--markdown", type=Path, help="write the matrix to this file too")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.bugs) - PLANTS.keys()):
        parser.error(f"there is no bug {', '.join(unknown)}; there are {', '.join(PLANTS)}")
    console = Console(stderr=given.json)
    chosen = [PLANTS[name] for name in given.bugs] or list(PLANTS.values())
    trials = [] if given.no_clean else _clean(given.state, chosen, console)
    for plant in PLANTS.values():
        if plant in chosen:
            console.rule(plant.name)
            with Drill("local", given.state, {}, plant.name, False, console) as drill:
                verdict, _ = drill.run(read(plant.experiment), RUNS)
            trials.append(trial_of(verdict, plant))
        elif (before := earlier(given.state or state_directory(None), plant)) is not None:
            trials.append(before)
    console.print(matrix(trials))
    if given.markdown:
        given.markdown.write_text(as_markdown(trials), encoding="utf-8")
    failed = [one for one in trials if not one.holds]
    for one in failed:
        console.print(f"[bold red]{one.bug}[/]: {one.expected or 'clean code'} answered {dict(one.answers)}")
    if given.json:
        print(json.dumps([{**vars(one), "answers": dict(one.answers), "holds": one.holds} for one in trials]))
    if not trials:
        return 2
    return 1 if failed else 0


def _clean(state: Path | None, chosen: Sequence[Plant], console: Console) -> list[Trial]:
    trials: list[Trial] = []
    with Drill("local", state, {}, None, False, console) as drill:
        for experiment in dict.fromkeys(plant.experiment for plant in chosen):
            console.rule(f"{CLEAN}: {experiment}")
            verdict, _ = drill.run(read(experiment), RUNS)
            trials.append(trial_of(verdict, None))
    return trials


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
