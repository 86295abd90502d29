"""`holdfast load`: clients in shapes against both regions, judged by the objectives, and how much the regions bear."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from holdfast.options import DOES_NOT_HOLD, UNCHECKED, as_json, deployment_options, emit, fails_as, refuse

if TYPE_CHECKING:
    from loadtests.traffic.entries import Entry
    from loadtests.traffic.locusts import Load, Loaded, OnEntries
    from loadtests.traffic.objectives import Slo
    from loadtests.traffic.results import Results, Step

__all__ = ["load"]

LOADS = "loads"
LINE_SECONDS = 5.0
"""Between two lines of progress, where nobody looks at a terminal."""
_STYLES = {True: "bold green", False: "bold red", None: "bold yellow"}
_WORDS = {True: "holds", False: "missed", None: "unknown"}
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(
    epilog="""\b
Examples:
  holdfast load run --rate 2 --seconds 60     two runs a second, and whether the objectives hold
  holdfast load run burst --rate 1            five times as many for ten seconds: at a failover, or at half time
  holdfast load capacity                      the highest rate at which the objectives hold
  holdfast load objectives                    what is promised
  locust -f loadtests/locustfile.py           the same users with Locust's page in the browser"""
)
def load() -> None:
    """Put load on a deployment, and judge what its clients saw by the objectives in slo.yaml."""


@load.command(
    epilog="""\b
Shapes: steady; ramp, in ten steps up to the rate; burst, five times the rate for ten seconds; herd, every run is held
and all are let go at half time.
Exit codes: 0 every objective holds, 1 one is missed, 2 it could not be judged or the input was wrong."""
)
@click.argument("shape", default="steady", metavar="[steady|ramp|burst|herd]")
@click.option("--rate", default=1.0, show_default=True, metavar="N", help="Runs started a second, in tenths.")
@click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(5, 86_400), help="For how long.")
@click.option(
    "--warm-up", default=5.0, show_default=True, type=click.FloatRange(0, 600), help="Seconds before, not judged."
)
@click.option("--slo", "slo_file", type=_FILE, metavar="FILE", help="Other objectives. [default: loadtests/slo.yaml]")
@deployment_options
@as_json
def run(
    shape: str,
    rate: float,
    seconds: float,
    warm_up: float,
    slo_file: Path | None,
    stack: str,
    state: Path | None,
    json_: bool,
) -> None:
    """Start runs in a shape, follow each to its end, approve and list beside it, and judge the whole."""
    from infra.state import state_directory
    from loadtests.traffic.locusts import Load
    from loadtests.traffic.shapes import SHAPES

    if shape not in SHAPES:
        refuse(UNCHECKED, f"there is no shape {shape!r}; there are {', '.join(SHAPES)}", json_=json_)
    _demand_rate(rate, json_)
    slo = _objectives(slo_file, json_)
    console = Console(stderr=True)
    folder = state_directory(state) / LOADS / f"{_now()}-{shape}"
    with fails_as(json_), _loads(stack, state, json_):
        loaded = _shown(Load(shape, rate, seconds, warm_up), folder, stack, state_directory(state), console)
    results, page = _judged(loaded, folder, slo)
    if json_:
        emit({"ok": results.answer is True, "report": str(page), **results.model_dump(mode="json")})
    else:
        _show(results, page, Console())
    sys.exit({True: 0, False: DOES_NOT_HOLD, None: UNCHECKED}[results.answer])


@load.command(
    epilog="""\b
Each step is a steady load at one rate: a warm-up, the seconds that are judged, and the end of every run. The rate is
doubled until an objective is missed or runs pile up, then what lies between is halved.
Exit codes: 0 a rate was found at which the objectives hold, 1 there is none, 2 it could not be measured."""
)
@click.option("--from", "first", default=1.0, show_default=True, metavar="N", help="The rate to begin with.")
@click.option("--to", "most", default=64.0, show_default=True, metavar="N", help="No higher rate is tried.")
@click.option(
    "--seconds", default=30.0, show_default=True, type=click.FloatRange(5, 3600), help="Judged, of each rate."
)
@click.option("--warm-up", default=10.0, show_default=True, type=click.FloatRange(0, 600), help="Before, of each rate.")
@click.option("--steps", default=12, show_default=True, type=click.IntRange(1, 100), help="At most so many rates.")
@click.option("--within", default=1800.0, show_default=True, type=click.FloatRange(10), help="Seconds for the search.")
@click.option("--slo", "slo_file", type=_FILE, metavar="FILE", help="Other objectives. [default: loadtests/slo.yaml]")
@click.option(
    "--page", type=_FILE, metavar="FILE", help="A Markdown page whose results, between two marks, are renewed."
)
@deployment_options
@as_json
def capacity(
    first: float,
    most: float,
    seconds: float,
    warm_up: float,
    steps: int,
    within: float,
    slo_file: Path | None,
    page: Path | None,
    stack: str,
    state: Path | None,
    json_: bool,
) -> None:
    """Find the highest rate of starts at which the objectives hold."""
    from holdfast.runs import client_of
    from infra.state import state_directory
    from loadtests.telling import machine
    from loadtests.traffic.capacity import search, settle
    from loadtests.traffic.locusts import Load
    from loadtests.traffic.report import answer_of, write_capacity
    from loadtests.traffic.results import Capacity

    for rate in (first, most):
        _demand_rate(rate, json_)
    if first > most:
        refuse(UNCHECKED, f"--from {first:g} is above --to {most:g}: no rate lies between", json_=json_)
    slo, console = _objectives(slo_file, json_), Console(stderr=True)
    folder = state_directory(state) / LOADS / f"{_now()}-capacity"
    found = Capacity(machine=machine(), measured_at=time.time(), seconds=seconds, warm_up=warm_up, steps=[])

    def measure(rate: float) -> Results:
        settle(lambda: client.runs(status="open", id_contains="load-"))
        own = folder / f"{len(found.steps) + 1:02}-{rate:g}"
        loaded = _shown(Load("steady", rate, seconds, warm_up), own, stack, state_directory(state), console)
        return _judged(loaded, own, slo)[0]

    with fails_as(json_), _loads(stack, state, json_):
        client = client_of(stack, state)
        try:
            for step in search(measure, first, most, steps, time.monotonic() + within):
                found.steps.append(step)
                _say(step, console)
                written = write_capacity(folder, found, slo.objectives)
        finally:
            client.close()
    written = write_capacity(folder, found, slo.objectives, page)
    if json_:
        told = found.model_dump(mode="json")
        emit({"ok": found.holds_at is not None, "holds_at": found.holds_at, "report": str(written), **told})
    else:
        console.print(f"{answer_of(found)}   report {escape(str(written))}", highlight=False, soft_wrap=True)
    if found.holds_at is None:
        sys.exit(UNCHECKED if found.missed_at is None else DOES_NOT_HOLD)


@load.command()
@click.option("--slo", "slo_file", type=_FILE, metavar="FILE", help="Other objectives. [default: loadtests/slo.yaml]")
@click.option("--alerts", is_flag=True, help="Print Prometheus's burn-rate rules for them.")
@as_json
def objectives(slo_file: Path | None, alerts: bool, json_: bool) -> None:
    """Check slo.yaml, and show what it promises."""
    from loadtests.traffic.alerts import rules
    from loadtests.traffic.objectives import OBJECTIVES

    slo = _objectives(slo_file, json_)
    if json_:
        emit({"ok": True, **slo.model_dump(mode="json")})
    elif alerts:
        click.echo(rules(slo), nl=False)
    else:
        table = Table("objective", "target", "within")
        for name in OBJECTIVES:
            own = slo.objectives.named(name)
            within = getattr(own, "within_seconds", None)
            table.add_row(name, f"{own.target:g} %", "" if within is None else f"{within:g} s")
        Console().print(table)


@contextmanager
def _loads(stack: str, state: Path | None, json_: bool) -> Generator[None]:
    """Demands a deployment, and turns a load that did not take place into a reason and an exit code."""
    from infra.manifest import Manifest
    from infra.state import deployment_directory
    from loadtests.traffic.locusts import NotLoadedError

    Manifest.load(deployment_directory(stack, state))
    try:
        yield
    except NotLoadedError as error:
        refuse(UNCHECKED, str(error), json_=json_)


def _shown(wanted: Load, folder: Path, stack: str, state: Path, console: Console) -> Loaded:
    """The load, with its progress."""
    from loadtests.traffic.locusts import run_load

    what = f"{wanted.shape}, {wanted.rate:g} a second"
    if not console.is_terminal:
        return run_load(wanted, folder, stack, state, _lines(what, console))
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[seen]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=wanted.whole_seconds, seen="")
        return run_load(
            wanted,
            folder,
            stack,
            state,
            lambda at, entries: progress.update(task, completed=at, seen=_counted(entries)),
        )


def _lines(what: str, console: Console) -> OnEntries:
    told = 0.0

    def tell(at: float, entries: Sequence[Entry]) -> None:
        nonlocal told
        if at - told >= LINE_SECONDS:
            told = at
            console.print(f"{what}: {at:.0f} s, {_counted(entries)}", highlight=False, soft_wrap=True)

    return tell


def _counted(entries: Sequence[Entry]) -> str:
    started = sum(entry.name == "start" and entry.error is None for entry in entries)
    ended = sum(entry.name == "complete" for entry in entries)
    failed = sum(entry.error is not None and entry.name != "retry" for entry in entries)
    return f"{started} started, {ended} ended, {failed} failed"


def _judged(loaded: Loaded, folder: Path, slo: Slo) -> tuple[Results, Path]:
    from loadtests.traffic.report import write_load
    from loadtests.traffic.results import results_of

    results = results_of(loaded, slo.objectives)
    return results, write_load(folder, loaded, results, slo.objectives)


def _show(results: Results, page: Path, console: Console) -> None:
    table = Table(
        "", "well", "failed", "p50", "p95", "p99", "errors", title=f"{results.shape}, {results.rate:g} a second"
    )
    for one in results.figures:
        times = ("" if value is None else f"{value:.3f} s" for value in (one.p50, one.p95, one.p99))
        errors = ", ".join(f"{escape(kind)} {count}" for kind, count in one.errors.items())
        table.add_row(one.name, str(one.ok), str(one.failed), *times, errors)
    console.print(table)
    for one in results.outcomes:
        word = f"[{_STYLES[one.holds]}]{_WORDS[one.holds]}[/]"
        console.print(f"{word}  {one.name}: {one.promise}; seen {one.told}", highlight=False)
    console.print(f"report {escape(str(page))}", highlight=False, soft_wrap=True)


def _say(step: Step, console: Console) -> None:
    word = "not measured" if step.results is None else "holds" if step.holds else "missed"
    style = _STYLES[None if step.results is None else step.holds]
    console.print(f"{step.rate:g} a second: [{style}]{word}[/] {escape(_why(step))}", highlight=False, soft_wrap=True)


def _why(step: Step) -> str:
    if step.results is None:
        return step.missing or ""
    missed = [f"{one.name} {one.told}" for one in step.results.outcomes if one.holds is not True]
    ended = f"{step.results.ended_per_second:.2f} of {step.results.started_per_second:.2f} runs a second ended"
    return "; ".join([*missed, *([] if step.results.kept_up else [ended])])


def _objectives(file: Path | None, json_: bool) -> Slo:
    from loadtests.traffic.objectives import SLO, SloError, read_slo

    try:
        return read_slo(file or SLO)
    except SloError as error:
        refuse(UNCHECKED, str(error), json_=json_)


def _demand_rate(rate: Any, json_: bool) -> None:
    from loadtests.traffic.shapes import customers_for

    try:
        customers_for(rate)
    except ValueError as error:
        refuse(UNCHECKED, str(error), json_=json_)


def _now() -> str:
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime())
