"""`holdfast drill`: inject a fault into a deployment under load, wait, judge, report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from holdfast.options import UNCHECKED, as_json, deployment_options, emit, fails_as, refuse

if TYPE_CHECKING:
    from chaos.report import Verdict

__all__ = ["drill", "show"]

_STYLES = {"valid": "bold green", "invalid": "bold red", "unknown": "bold yellow"}


@click.command(
    epilog="""\b
Examples:
  holdfast drill                          lose the active region, and prove the failover
  holdfast drill worker-crash             kill a worker in the middle of its work
  holdfast drill switchover --repeat 4    move the active role to and fro, and show the distribution
  holdfast drill --plant recovery-sweep-off   a planted bug, which the checkers must catch
\b
It uses the running deployment, or brings one up and removes it afterwards.
Exit codes: 0 valid, 1 invalid, 2 unknown or not possible."""
)
@click.argument("name", default="region-loss", metavar="[region-loss|worker-crash|switchover]")
@click.option("--runs", default=24, show_default=True, type=click.IntRange(1, 500), help="Runs started at once.")
@click.option("--repeat", default=1, show_default=True, type=click.IntRange(1, 1000), help="Do it so many times.")
@click.option("--keep", is_flag=True, help="Leave everything up afterwards, to look at.")
@click.option("--plant", metavar="BUG", help="Plant a bug: recovery-sweep-off, no-idempotency-key, effect-runs-twice.")
@click.option(
    "-c", "--config", "overrides", multiple=True, metavar="KEY=VALUE", help="As for `up`, where none is up yet."
)
@deployment_options
@as_json
def drill(
    name: str,
    runs: int,
    repeat: int,
    keep: bool,
    plant: str | None,
    overrides: tuple[str, ...],
    stack: str,
    state: Path | None,
    json_: bool,
) -> None:
    """Prove a failover: run agents, inject the fault NAME, wait for recovery, judge what was recorded."""
    from chaos.drill import DRILLS, Drill
    from chaos.experiment import read
    from chaos.plants import PLANTS
    from chaos.report import PAGE, spread
    from chaos.verdict import EXIT_CODES, worst
    from holdfast.deploy import settings_of

    if name not in DRILLS:
        refuse(
            UNCHECKED,
            f"there is no drill {name!r}; there are {', '.join(DRILLS)}. `holdfast chaos list` shows more",
            json_=json_,
        )
    if plant is not None and plant not in PLANTS:
        refuse(UNCHECKED, f"there is no bug {plant!r} to plant; there are {', '.join(sorted(PLANTS))}", json_=json_)
    console = Console(stderr=json_)
    with fails_as(json_), Drill(stack, state, settings_of(overrides), plant, keep, console) as prepared:
        verdicts: list[Verdict] = []
        folders: list[Path] = []
        for number in range(repeat):
            if repeat > 1:
                console.rule(f"{name} {number + 1} of {repeat}")
            verdict, folder = prepared.run(read(name), runs)
            verdicts.append(verdict)
            folders.append(folder)
            show(verdict, folder / PAGE, console)
    answer = worst(verdict.answer for verdict in verdicts)
    if repeat > 1:
        spread.show(verdicts, console)
    if json_:
        told = [verdict.model_dump(mode="json") for verdict in verdicts]
        emit({"ok": answer == "valid", "answer": answer, "verdicts": told, "reports": [str(one) for one in folders]})
    sys.exit(EXIT_CODES[answer])


def show(verdict: Verdict, page: Path, console: Console) -> None:
    """Print what the checkers said."""
    table = Table("check", "claim", "answer", "counts", title=f"{verdict.experiment}: {verdict.runs} runs accepted")
    for check in verdict.checks:
        counts = ", ".join(f"{name} {value}" for name, value in check.counts.items())
        table.add_row(check.check, check.claim, f"[{_STYLES[check.answer]}]{check.answer}[/]", counts)
    console.print(table)
    for check in verdict.checks:
        for line in check.witness[:5]:
            console.print(f"  [{_STYLES[check.answer]}]{check.check}[/] {escape(line)}", highlight=False)
    found = verdict.recovery
    phases = [(name, getattr(found, name)) for name in ("detect", "promote", "activate", "resume")]
    told = ", ".join(f"{name} {value:.2f}" for name, value in phases if value is not None)
    rto = f"{found.rto:.2f} s" if found.rto is not None else "not seen"
    console.print(f"RTO {rto}{f' ({told})' if told else ''}", highlight=False)
    if found.moved:
        half, last = found.moved[len(found.moved) // 2], found.moved[-1]
        console.print(
            f"the crashed worker's {len(found.moved)} runs moved on: half within {half:.2f} s, all within {last:.2f} s",
            highlight=False,
        )
    if found.rpo_events is not None:
        console.print(f"RPO {found.rpo_events} runs, {found.rpo_seconds:.1f} s", highlight=False)
    console.print(
        f"verdict [{_STYLES[verdict.answer]}]{verdict.answer}[/]   report {escape(str(page))}",
        highlight=False,
        soft_wrap=True,
    )
