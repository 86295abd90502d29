"""`holdfast report`: what to do with the reports of drills."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from holdfast.judge import judge
from holdfast.options import UNCHECKED, as_json, emit, refuse

if TYPE_CHECKING:
    from chaos.report import Report
    from chaos.report.compare import Row

__all__ = ["report"]

STYLES = {"valid": "green", "invalid": "bold red", "unknown": "yellow"}
DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.group()
def report() -> None:
    """Work with the reports of drills: the folders in <state>/reports."""


report.add_command(judge)


@report.command(
    epilog="""\b
Examples:
  holdfast report summary .holdfast/reports
  holdfast report summary DIR DIR --junit junit.xml --markdown summary.md
\b
Exit codes: 0 all are valid, 1 one is invalid, 2 one is unknown or no report."""
)
@click.argument("folders", nargs=-1, required=True, type=DIRECTORY, metavar="DIR...")
@click.option("--junit", type=FILE, metavar="FILE", help="Write JUnit XML: a suite for each experiment.")
@click.option("--markdown", type=FILE, metavar="FILE", help="Write a summary, for a job's page or for documentation.")
@as_json
def summary(folders: tuple[Path, ...], junit: Path | None, markdown: Path | None, json_: bool) -> None:
    """Sum up reports: each DIR is a report, or a folder of reports."""
    from chaos.report.ci import ANSWERS, answer_of, as_junit, as_markdown, by_experiment
    from chaos.verdict import EXIT_CODES

    reports = [_load(one, json_) for folder in folders for one in _reports_in(folder, json_)]
    answer = answer_of(reports)
    for path, text in ((junit, as_junit), (markdown, as_markdown)):
        if path is not None:
            path.write_text(text(reports), encoding="utf-8")
    grouped = by_experiment(reports)
    counts = {
        name: {one: sum(found.verdict.answer == one for found in own) for one in ANSWERS}
        for name, own in grouped.items()
    }
    if json_:
        emit({"ok": answer == "valid", "answer": answer, "reports": len(reports), "experiments": counts})
    else:
        table = Table("experiment", *ANSWERS)
        for name, own in counts.items():
            table.add_row(escape(name), *(f"[{STYLES[one]}]{own[one]}[/]" if own[one] else "" for one in ANSWERS))
        Console().print(table)
        for found in reports:
            if found.verdict.answer != "valid":
                told = f"[{STYLES[found.verdict.answer]}]{found.verdict.answer}[/] {escape(str(found.folder))}"
                Console().print(told, highlight=False, soft_wrap=True)
    sys.exit(EXIT_CODES[answer])


@report.command(
    epilog="""\b
Exit codes: 0 what held in A holds in B, 1 some of it does not, 2 of some of it B can't tell."""
)
@click.argument("first", type=DIRECTORY, metavar="A")
@click.argument("second", type=DIRECTORY, metavar="B")
@click.option("--out", type=FILE, metavar="FILE", help="Where the page goes. [default: B/compared.html]")
@as_json
def compare(first: Path, second: Path, out: Path | None, json_: bool) -> None:
    """Compare report B with report A: verdicts, phases and counts side by side, and what changed."""
    from chaos.report.compare import compare as compared
    from chaos.report.compare import write_comparison
    from chaos.verdict import EXIT_CODES

    one, other = _load(first, json_), _load(second, json_)
    found = compared(one, other)
    page = write_comparison(one, other, out or second / "compared.html")
    if json_:
        emit({"ok": found.answer == "valid", "page": str(page), **found.model_dump(mode="json")})
    else:
        _show(found.changes, first.resolve().name, second.resolve().name)
        Console().print(f"page {escape(str(page))}", highlight=False, soft_wrap=True)
    sys.exit(EXIT_CODES[found.answer])


@report.command(
    epilog="""\b
Examples:
  holdfast drill region-loss --repeat 30; holdfast drill switchover --repeat 30
  holdfast report recovery .holdfast/reports --page docs/recovery.md
\b
Exit codes: 0 all are valid and fast enough, 1 one is invalid or p95 is over its bar, 2 one is unknown or no report."""
)
@click.argument("folders", nargs=-1, required=True, type=DIRECTORY, metavar="DIR...")
@click.option(
    "--experiment",
    "names",
    multiple=True,
    default=("region-loss", "switchover"),
    show_default=True,
    metavar="NAME",
    help="Of which experiments. May be repeated.",
)
@click.option("--page", type=FILE, metavar="FILE", help="Write a page, and its charts into `images` beside it.")
@as_json
def recovery(folders: tuple[Path, ...], names: tuple[str, ...], page: Path | None, json_: bool) -> None:
    """Show how long recoveries took over all reports of an experiment: each phase's p50, p95 and most."""
    from chaos.matrix import reports_in
    from chaos.report import spread
    from chaos.report.ci import ANSWERS, answer_of, by_experiment
    from chaos.verdict import EXIT_CODES

    reports = [one for one in reports_in(folders)[0] if one.verdict.experiment in names]
    told: dict[str, object] = {}
    slow = False
    for name, own in by_experiment(reports).items():
        verdicts = [one.verdict for one in own]
        slow |= bool(spread.slower_than_asked(name, verdicts))
        told[name] = {
            "repeats": len(own),
            "answers": {one: sum(verdict.answer == one for verdict in verdicts) for one in ANSWERS},
            "versions": list(dict.fromkeys(verdict.version for verdict in verdicts)),
            "seconds": {one.name: one.figures | {"n": len(one.values)} for one in spread.spreads(verdicts)},
        }
        if not json_:
            Console().rule(escape(name))
            spread.show(verdicts, Console())
    if page is not None:
        asked = "".join(f"holdfast drill {name} --repeat {len(own)}\n" for name, own in by_experiment(reports).items())
        spread.write_page(reports, page, f"{asked}holdfast report recovery .holdfast/reports --page docs/{page.name}")
    answer = "invalid" if slow else answer_of(reports)
    if json_:
        emit({"ok": answer == "valid", "answer": answer, "experiments": told})
    sys.exit(EXIT_CODES[answer])


def _show(changes: list[Row], first: str, second: str) -> None:
    if not changes:
        click.echo("nothing changed")
        return
    table = Table("changed", first, second, "")
    for row in changes:
        cells = ("–" if cell is None else escape(cell) for cell in (row.first, row.second))
        table.add_row(escape(row.name), *cells, "[bold red]worse[/]" if row.worse else "")
    Console().print(table)


def _load(folder: Path, json_: bool) -> Report:
    from chaos.report import Report, ReportMissing

    try:
        return Report.load(folder)
    except ReportMissing as error:
        refuse(UNCHECKED, str(error), json_=json_)


def _reports_in(folder: Path, json_: bool) -> list[Path]:
    """The folder, where it is a report; else the folders within it: each of them has to be one."""
    from chaos.report import VERDICT

    if (folder / VERDICT).exists():
        return [folder]
    found = sorted(one for one in folder.iterdir() if one.is_dir())
    if not found:
        refuse(UNCHECKED, f"{folder} is no report, and there is none in it; `holdfast drill` makes one", json_=json_)
    return found
