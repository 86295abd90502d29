"""`holdfast drill runbook`: follow a runbook to the letter on a live deployment, judge, and keep what was measured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from holdfast.drill import show
from holdfast.options import UNCHECKED, as_json, deployment_options, emit, fails_as, refuse

if TYPE_CHECKING:
    from chaos.report import Verdict
    from chaos.runbooks.page import Runbook
    from chaos.runbooks.results import Result

__all__ = ["runbook"]


@click.command(
    epilog="""\b
Examples:
  holdfast drill runbook --list
  holdfast drill runbook region-loss
  holdfast drill runbook region-evacuation --repeat 2   there and back
  holdfast drill runbook --all                          every page that can be drilled
\b
It uses the running deployment, or brings one up and removes it afterwards. Times go to runbooks/RESULTS.md.
Exit codes: 0 every step did what the page says and all checks hold, 1 not so, 2 unknown or not possible."""
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every runbook that can be drilled.")
@click.option("--list", "list_", is_flag=True, help="Show every runbook, and which can be drilled here.")
@click.option("--runs", default=24, show_default=True, type=click.IntRange(1, 500), help="Runs started at once.")
@click.option("--repeat", default=1, show_default=True, type=click.IntRange(1, 1000), help="Do it so many times.")
@click.option("--keep", is_flag=True, help="Leave everything up afterwards, to look at.")
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the times are kept.  [default: runbooks in the checkout]",
)
@deployment_options
@as_json
def runbook(
    names: tuple[str, ...],
    everything: bool,
    list_: bool,
    runs: int,
    repeat: int,
    keep: bool,
    results: Path | None,
    stack: str,
    state: Path | None,
    json_: bool,
) -> None:
    """Make the situation that each runbook NAME is about, under load, and do what the page says, step by step."""
    from chaos.drill import Drill
    from chaos.faults import NotLiftedError
    from chaos.report import PAGE
    from chaos.runbooks.page import FOLDER, Malformed, runbook_named, runbooks
    from chaos.runbooks.player import drilled
    from chaos.verdict import EXIT_CODES, worst

    kept = results or FOLDER
    try:
        if list_:
            _list(runbooks(), kept, json_)
            return
        pages = (
            [one for one in runbooks() if one.not_drilled is None] if everything else list(map(runbook_named, names))
        )
    except (KeyError, Malformed) as error:
        refuse(UNCHECKED, str(error.args[0]), json_=json_)
    if not pages:
        refuse(UNCHECKED, "name a runbook, or --all; `holdfast drill runbook --list` shows them", json_=json_)
    for page in pages:
        if page.not_drilled is not None:
            refuse(UNCHECKED, f"{page.name} can't be drilled: {page.not_drilled}", json_=json_)
    console = Console(stderr=json_)
    verdicts: list[Verdict] = []
    measured: list[Result] = []
    folders: list[Path] = []

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    try:
        with fails_as(json_), Drill(stack, state, {}, None, keep, console) as prepared:
            for number, page in enumerate(pages * repeat, 1):
                console.rule(f"{page.name}: {number} of {len(pages) * repeat}")
                verdict, folder, result = drilled(prepared, page, runs, say, kept)
                verdicts.append(verdict)
                measured.append(result)
                folders.append(folder)
                show(verdict, folder / PAGE, console)
    except (NotLiftedError, TimeoutError) as error:
        refuse(UNCHECKED, f"{error}; `holdfast up` repairs the deployment", json_=json_)
    answer = worst(verdict.answer for verdict in verdicts)
    if json_:
        emit(
            {
                "ok": answer == "valid",
                "answer": answer,
                "results": [one.model_dump(mode="json") for one in measured],
                "verdicts": [one.model_dump(mode="json") for one in verdicts],
                "reports": [str(one) for one in folders],
            }
        )
    sys.exit(EXIT_CODES[answer])


def _list(pages: list[Runbook], kept: Path, json_: bool) -> None:
    from chaos.runbooks.results import load

    last = {(one.runbook, one.active): one for one in load(kept)}
    if json_:
        listed = [
            {
                "name": page.name,
                "title": page.title,
                "fault": page.fault and page.fault.fault,
                "drilled": page.not_drilled is None,
                "why": page.not_drilled,
                "results": [one.model_dump(mode="json") for key, one in sorted(last.items()) if key[0] == page.name],
            }
            for page in pages
        ]
        emit({"ok": True, "runbooks": listed})
        return
    table = Table("runbook", "title", "fault", "can be drilled here", "last drill")
    for page in pages:
        drills = [
            f"from {key[1]} {one.answer}, {one.seconds:.0f} s"
            for key, one in sorted(last.items())
            if key[0] == page.name
        ]
        fault = f"{page.fault.fault} at {page.fault.where}" if page.fault else ""
        table.add_row(page.name, page.title, fault, page.not_drilled or "yes", "\n".join(drills))
    Console().print(table)
