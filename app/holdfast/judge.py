"""`holdfast report judge`: judge recorded experiments again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from holdfast.options import UNCHECKED, as_json, emit, refuse

if TYPE_CHECKING:
    from chaos.judging import Judgement

__all__ = ["judge"]

_STYLES = {"valid": "green", "invalid": "bold red", "unknown": "yellow"}
_WITNESSES = 3


@click.command(
    epilog="""\b
Examples:
  holdfast report judge .holdfast/reports              everything that was recorded here
  holdfast report judge DIR --write                    and write its verdict and page anew
\b
It reads what was recorded and needs no deployment.
Exit codes: 0 all are valid, 1 one is invalid, 2 one is unknown or can't be judged."""
)
@click.argument(
    "folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR..."
)
@click.option("--write", is_flag=True, help="Replace each report's verdict and page.")
@as_json
def judge(folders: tuple[Path, ...], write: bool, json_: bool) -> None:
    """Judge recorded experiments by today's checkers, and show where the verdict has changed."""
    from chaos.judging import NotJudgedError, judge_again, recorded_in
    from chaos.report import write_report
    from chaos.verdict import EXIT_CODES, Answer

    console = Console(stderr=json_)
    judged: list[Judgement] = []
    for folder in folders:
        found = list(recorded_in(folder)) or [folder]
        for one in found:
            try:
                judged.append(judge_again(one))
            except NotJudgedError as error:
                refuse(UNCHECKED, str(error), json_=json_)
    for one in judged:
        _show(one, console)
        if write:
            write_report(one.folder, one.history, one.now)
    answers: set[Answer] = {one.now.answer for one in judged}
    answer: Answer = "invalid" if "invalid" in answers else "unknown" if "unknown" in answers else "valid"
    if json_:
        told = [
            {
                "folder": str(one.folder),
                "before": one.before and one.before.answer,
                "changes": [vars(change) for change in one.changes],
                "verdict": one.now.model_dump(mode="json"),
            }
            for one in judged
        ]
        emit({"ok": answer == "valid", "answer": answer, "judged": told})
    sys.exit(EXIT_CODES[answer])


def _show(one: Judgement, console: Console) -> None:
    before, changed = one.before, {change.check: change for change in one.changes}
    was = f", {before.answer} before" if before and before.answer != one.now.answer else ""
    planted = f", planted {before.planted}" if before and before.planted else ""
    told = f"[{_STYLES[one.now.answer]}]{one.now.answer}[/]{was}{planted}  {escape(str(one.folder))}"
    console.print(told, highlight=False, soft_wrap=True)
    if changed:
        table = Table("check", "before", "now")
        for change in changed.values():
            table.add_row(change.check, change.before or "–", change.now or "–")
        console.print(table)
    for check in one.now.checks:
        if check.answer != "valid":
            for line in check.witness[:_WITNESSES]:
                console.print(f"  [{_STYLES[check.answer]}]{check.check}[/] {escape(line)}", highlight=False)
