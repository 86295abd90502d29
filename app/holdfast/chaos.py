"""`holdfast chaos`: the catalogue of experiments, and what runs them one after the other."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from holdfast.drill import show
from holdfast.matrix import matrix
from holdfast.options import UNCHECKED, as_json, deployment_options, emit, fails_as, refuse
from holdfast.playing import play

__all__ = ["chaos"]


@click.group(
    epilog="""\b
Examples:
  holdfast chaos list --tag must
  holdfast chaos run standby-loss worker-frozen
  holdfast chaos run --all --repeat 3
  holdfast chaos matrix
  holdfast chaos nemesis --seconds 120 --seed 7
  holdfast chaos grid"""
)
def chaos() -> None:
    """Run experiments of the catalogue on a deployment, and judge each."""


chaos.add_command(matrix)


@chaos.command(name="list")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only with this tag, such as must, P2 or links.")
@deployment_options
@as_json
def list_(tags: tuple[str, ...], stack: str, state: Path | None, json_: bool) -> None:
    """Show every experiment: what it claims, which rows of the fault matrix it covers, what it needs, how long."""
    from chaos.durations import Durations
    from chaos.experiment import chosen
    from infra.state import state_directory

    try:
        found = chosen((), tags, everything=not tags)
    except KeyError as error:
        refuse(UNCHECKED, str(error.args[0]), json_=json_)
    durations = Durations(state_directory(state))
    if json_:
        listed = [
            {
                "name": one.name,
                "claim": one.claim,
                "rows": one.rows,
                "tags": one.tags,
                "faults": one.faults,
                "needs": sorted(one.needs),
                "seconds": durations.of(one),
            }
            for one in found
        ]
        emit({"ok": True, "experiments": listed})
        return
    table = Table("experiment", "claim", "rows", "tags", "needs", "about")
    for one in found:
        others = [tag for tag in one.tags if tag not in one.rows]
        needs = ", ".join(sorted(one.needs))
        table.add_row(one.name, one.claim, " ".join(one.rows), " ".join(others), needs, f"{durations.of(one):.0f} s")
    Console().print(table)


@chaos.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every experiment of the catalogue.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Every experiment with this tag. May be repeated.")
@click.option("--repeat", default=1, show_default=True, type=click.IntRange(1, 1000), help="All of it so many times.")
@click.option("--runs", default=24, show_default=True, type=click.IntRange(1, 500), help="Runs started at once.")
@deployment_options
@as_json
def run(
    names: tuple[str, ...],
    everything: bool,
    tags: tuple[str, ...],
    repeat: int,
    runs: int,
    stack: str,
    state: Path | None,
    json_: bool,
) -> None:
    """Run experiments one after the other, each on a whole deployment, and judge each.

    Ctrl-C stops at any point: what is in force is taken back first.
    """
    from chaos.experiment import chosen

    try:
        found = chosen(names, tags, everything)
    except KeyError as error:
        refuse(UNCHECKED, str(error.args[0]), json_=json_)
    if not found:
        refuse(UNCHECKED, "name an experiment, or --tag, or --all; `holdfast chaos list` shows them", json_=json_)
    play([*found] * repeat, runs, stack, state, json_)


@chaos.command()
@click.option("--seconds", default=120.0, show_default=True, type=click.FloatRange(min=1), help="How long it strikes.")
@click.option("--seed", type=click.IntRange(min=0), help="What composes the faults. [default: another one each time]")
@click.option("--runs", default=24, show_default=True, type=click.IntRange(1, 500), help="Runs started at once.")
@click.option("--dry-run", is_flag=True, help="Print the schedule as JSON, and do nothing.")
@deployment_options
@as_json
def nemesis(
    seconds: float, seed: int | None, runs: int, dry_run: bool, stack: str, state: Path | None, json_: bool
) -> None:
    """Strike at random for a while; the same seed strikes in the same way."""
    from chaos.nemesis import experiment, schedule

    chosen = seed if seed is not None else time.time_ns() % 1_000_000
    if dry_run:
        emit(
            {
                "ok": True,
                "seed": chosen,
                "seconds": seconds,
                "schedule": [asdict(one) for one in schedule(chosen, seconds)],
            }
        )
        return
    Console(stderr=json_).print(f"seed {chosen}: `--seed {chosen}` composes the same again", highlight=False)
    play([experiment(chosen, seconds)], runs, stack, state, json_)


@chaos.command()
@click.option("--workers", default=3, show_default=True, type=click.IntRange(2, 16), help="Workers of each region.")
@click.option("--keep", is_flag=True, help="Leave everything up afterwards, to look at.")
@deployment_options
@as_json
def grid(workers: int, keep: bool, stack: str, state: Path | None, json_: bool) -> None:
    """Let a worker die at every point of every step of the reference agent, each once, in a deployment of its own."""
    from chaos.drill import Drill
    from chaos.grid import PLANT, Grid, ticket
    from chaos.report import PAGE
    from chaos.verdict import EXIT_CODES

    console = Console(stderr=json_)
    settings = {"workers": str(workers)}
    with fails_as(json_), Drill(stack, state, settings, PLANT, keep, console) as prepared:
        verdict, folder = prepared.judged(
            "crash-points", 1, lambda session: Grid(session, ticket()).play(console.print)
        )
        show(verdict, folder / PAGE, console)
    if json_:
        told = verdict.model_dump(mode="json")
        emit({"ok": verdict.answer == "valid", "answer": verdict.answer, "verdicts": [told], "reports": [str(folder)]})
    sys.exit(EXIT_CODES[verdict.answer])
