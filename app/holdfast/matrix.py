"""`holdfast chaos matrix`: every experiment of the fault matrix, several times, and the page that sums it up."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from holdfast.options import UNCHECKED, as_json, deployment_options, emit, fails_as, refuse
from holdfast.playing import each

if TYPE_CHECKING:
    from chaos.experiment import Experiment
    from chaos.matrix import Standing

__all__ = ["matrix"]

_STYLES = {"valid": "bold green", "invalid": "bold red", "unknown": "bold yellow"}


@click.command(
    epilog="""\b
Examples:
  holdfast chaos matrix                 what is lacking of three repeats; stopped, it goes on where it was
  holdfast chaos matrix --page-only     the page again, of the reports that there are
\b
Every report counts, also of `holdfast chaos run` and `holdfast drill`, and none is left out.
Exit codes: 0 every experiment stands as valid, 1 one as invalid, 2 one as unknown."""
)
@click.option("--repeat", default=3, show_default=True, type=click.IntRange(1, 100), help="How often each is run.")
@click.option("--tag", default="must", show_default=True, metavar="TAG", help="Which experiments are run.")
@click.option("--runs", default=24, show_default=True, type=click.IntRange(1, 500), help="Runs started at once.")
@click.option(
    "--reports",
    "folders",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Reports that count too, beside those of <state>/reports. May be repeated.",
)
@click.option(
    "--page",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="Where the page goes. [default: docs/fault-matrix.md]",
)
@click.option("--page-only", is_flag=True, help="Run nothing.")
@deployment_options
@as_json
def matrix(
    repeat: int,
    tag: str,
    runs: int,
    folders: tuple[Path, ...],
    page: Path | None,
    page_only: bool,
    stack: str,
    state: Path | None,
    json_: bool,
) -> None:
    """Run what reports are lacking of several repeats of every must-experiment, and write the page of all reports."""
    from chaos.experiment import EXPERIMENTS, chosen, read
    from chaos.matrix import lacking, reports_in, standings
    from chaos.report.matrix import as_page
    from chaos.session import reports_directory
    from chaos.verdict import EXIT_CODES, worst
    from infra.state import project_root, state_directory

    try:
        wanted = {one.name for one in chosen((), [tag])}
    except KeyError as error:
        refuse(UNCHECKED, str(error.args[0]), json_=json_)
    console, own = Console(stderr=json_), reports_directory(state_directory(state))
    page = page or project_root() / "docs" / "fault-matrix.md"

    def standing() -> list[Standing]:
        """How every experiment of the catalogue stands now; writes the page."""
        places = [one for one in (own, *folders) if one.is_dir()]
        reports, broken = reports_in(places)
        found = standings([one for one in map(read, EXPERIMENTS) if one.rows], reports, repeat)
        page.write_text(as_page(found, reports, broken), encoding="utf-8")
        return [one for one in found if one.experiment.name in wanted]

    try:
        if not page_only and (left := lacking(standing())):
            _run(left, runs, stack, state, console, json_=json_)
    finally:
        stands = standing()
    answer = worst(one.answer for one in stands)
    for one in stands:
        if one.answer != "valid":
            told = f"[{_STYLES[one.answer]}]{one.answer}[/] {one.experiment.name}, {len(one.reports)} reports"
            console.print(told, highlight=False)
    console.print(f"[{_STYLES[answer]}]{answer}[/]   page {escape(str(page))}", highlight=False, soft_wrap=True)
    if json_:
        told = {one.experiment.name: {"answer": one.answer, "reports": len(one.reports)} for one in stands}
        emit({"ok": answer == "valid", "answer": answer, "page": str(page), "experiments": told})
    sys.exit(EXIT_CODES[answer])


def _run(
    left: Sequence[Experiment], runs: int, stack: str, state: Path | None, console: Console, *, json_: bool
) -> None:
    from chaos.drill import Drill
    from chaos.faults import NotLiftedError

    try:
        with fails_as(json_), Drill(stack, state, {}, None, False, console) as prepared:
            for verdict, folder in each(prepared, left, runs, console, mends=True):
                wrong = ", ".join(f"{one.check} {one.answer}" for one in verdict.checks if one.answer != "valid")
                told = f"[{_STYLES[verdict.answer]}]{verdict.answer}[/] {wrong} {escape(str(folder))}"
                console.print(told, highlight=False, soft_wrap=True)
    except (NotLiftedError, TimeoutError) as error:
        refuse(UNCHECKED, f"{error}; `holdfast down`, then the same again, goes on where it was", json_=json_)
