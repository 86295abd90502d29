"""Commands on runs: feed the agents from files of tickets, and look at what became of them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydantic import JsonValue, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from holdfast.client import HoldfastClient, NotAnsweredError, RefusedError, RunView, StepView
from holdfast.options import DOES_NOT_HOLD, UNCHECKED, as_json, deployment_options, emit, fails_as, refuse

if TYPE_CHECKING:
    from refund_desk import Ticket

__all__ = ["answered", "client_of", "demand", "run", "runs", "wait_all"]

_START_SECONDS, _WAIT_SECONDS = 60.0, 600.0
_ENDED = frozenset({"completed", "failed", "terminated"})
_TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"])
_REPEATED = ("ctx", "deps", "parameters", "settings")
"""What an input repeats at every step."""
_SHOWN = 160


def client_of(stack: str, state: Path | None) -> HoldfastClient:
    """A client of the deployment; raises NoManifest where there is none."""
    from infra.manifest import Manifest
    from infra.state import deployment_directory

    manifest = Manifest.load(deployment_directory(stack, state))
    token = manifest.api_token_file.read_text(encoding="utf-8").strip()
    return HoldfastClient({name: region.api for name, region in manifest.regions.items()}, ca=manifest.ca, token=token)


@click.command(
    epilog="""\b
Examples:
  holdfast run tickets.jsonl                  start a run for each ticket, and wait for the decisions
  holdfast run tickets.csv --no-wait          start them only
  holdfast run tickets.jsonl --prefix again-  start them under other ids
A ticket's run id is PREFIX and its ticket_id: the same file twice starts nothing twice.
Exit codes: 0 every ticket was decided, 1 a run failed or a line was malformed, 2 could not be tried."""
)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--wait/--no-wait", default=True, help="Wait until every run has ended.  [default: wait]")
@click.option("--prefix", default="", metavar="TEXT", help="Put before each ticket's id to make the run's id.")
@deployment_options
@as_json
def run(files: tuple[Path, ...], wait: bool, prefix: str, stack: str, state: Path | None, json_: bool) -> None:
    """Start a durable agent run for each ticket in FILES (.jsonl, or .csv with a header).

    A malformed line is reported with its number, and the others go on.
    """
    from refund_desk.tickets import read_tickets

    console = Console(stderr=True)
    with fails_as(json_):
        client = client_of(stack, state)
    tickets: list[Ticket] = []
    malformed: list[str] = []
    for file in files:
        try:
            found = read_tickets(file)
        except (OSError, UnicodeDecodeError) as error:
            refuse(UNCHECKED, f"{file} can't be read: {error}", json_=json_)
        tickets += found.tickets
        malformed += [f"{file}:{line.line}: {line.reason}" for line in found.malformed]
    for line in malformed:
        console.print(f"[yellow]skipped[/] {escape(line)}", highlight=False)
    with answered(json_):
        started, refused = _start_all(client, tickets, prefix, console)
    ended = wait_all(client, started, console) if wait else {}
    counts: dict[str, int] = {}
    for view in ended.values():
        counts[view.status] = counts.get(view.status, 0) + 1
    missing = len(started) - len(ended) if wait else 0
    bad = refused or malformed or missing or counts.keys() - {"completed"}
    if json_:
        answer = {"started": len(started), "refused": refused, "malformed": malformed, "ended": counts}
        emit({"ok": not bad, **answer})
    else:
        told = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "not waited for"
        console.print(f"{len(started)} runs started, {told}; {len(refused)} refused, {len(malformed)} malformed lines")
        console.print("next: `holdfast runs`, or `holdfast runs RUN_ID` for the steps of one")
    sys.exit(DOES_NOT_HOLD if bad else 0)


@click.command(
    epilog="""\b
Examples:
  holdfast runs                                 the newest runs
  holdfast runs --status failed                 those that failed
  holdfast runs --id T-10 --since 2026-05-01    those with T-10 in their id, accepted since then (UTC)
  holdfast runs T-1001                          one run with its steps
  holdfast runs T-1001~2                        its first rerun; what it asked another agent is T-1001.N
  holdfast runs T-1001 --json                   the same with whole inputs and outputs"""
)
@click.argument("run_id", required=False)
@click.option(
    "--status",
    metavar="STATUS",
    help="Only open (not ended), accepted, scheduled, completed, failed or terminated runs.",
)
@click.option("--agent", metavar="NAME", help="Only runs of this agent.")
@click.option("--since", type=_TIME, metavar="TIME", help="Only runs accepted at this time (UTC) or later.")
@click.option("--until", type=_TIME, metavar="TIME", help="Only runs accepted before this time (UTC).")
@click.option("--id", "id_contains", metavar="TEXT", help="Only runs with this text in their id.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@deployment_options
@as_json
def runs(
    run_id: str | None,
    status: str | None,
    agent: str | None,
    since: datetime | None,
    until: datetime | None,
    id_contains: str | None,
    limit: int,
    stack: str,
    state: Path | None,
    json_: bool,
) -> None:
    """List runs, or show one with its steps: what went in, what came out, which attempt, how long."""
    console = Console()
    with fails_as(json_), answered(json_):
        client = client_of(stack, state)
        if run_id is not None:
            _show(client, run_id, console, json_)
            return
        found = client.runs(
            status=status, agent=agent, since=_utc(since), until=_utc(until), id_contains=id_contains, limit=limit
        )
        _list(found, console, json_)


@contextmanager
def answered(json_: bool) -> Generator[None]:
    """Turns a question that no region answered into a reason and an exit code."""
    try:
        yield
    except RefusedError as error:
        refuse(UNCHECKED if error.status == 422 else DOES_NOT_HOLD, str(error), json_=json_)
    except NotAnsweredError as error:
        refuse(UNCHECKED, f"{error}; see `holdfast status`", json_=json_)
    except ValidationError as error:
        refuse(UNCHECKED, f"the region's answer can't be read: {error.errors()[0]['msg']}", json_=json_)


def demand(client: HoldfastClient, run_id: str, json_: bool) -> RunView:
    """The run, or the end of the command where there is none."""
    view = client.run(run_id)
    if view is None:
        refuse(DOES_NOT_HOLD, f"no run {run_id} was accepted; `holdfast runs` lists them", json_=json_)
    return view


def _utc(time: datetime | None) -> datetime | None:
    return time and (time if time.tzinfo else time.replace(tzinfo=UTC))


def _start_all(
    client: HoldfastClient, tickets: list[Ticket], prefix: str, console: Console
) -> tuple[list[str], list[str]]:
    started: dict[str, None] = {}  # Two files may hold the same ticket, which is one run.
    refused: list[str] = []
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for ticket in progress.track(tickets, description="starting"):
            run_id = prefix + ticket.ticket_id
            deadline = time.monotonic() + _START_SECONDS
            while True:
                answer = client.start(run_id, ticket.model_dump(mode="json", exclude_none=True))
                if answer.outcome != "unknown" or time.monotonic() > deadline:
                    break
                time.sleep(0.5)
            if answer.outcome == "ok":
                started[run_id] = None
            elif answer.outcome == "unknown":
                # The next tickets would wait as long, for the same reason.
                raise NotAnsweredError(
                    f"{run_id} could not be started within {_START_SECONDS:g} s ({answer.detail}), "
                    f"{len(started)} before it were; the same command may be repeated"
                )
            else:
                refused.append(f"{run_id}: {answer.detail}")
                console.print(f"[red]not started[/] {run_id}: {escape(answer.detail)}", highlight=False)
    return list(started), refused


def wait_all(client: HoldfastClient, run_ids: list[str], console: Console) -> dict[str, RunView]:
    """Those of the runs that have ended within ten minutes."""
    ended: dict[str, RunView] = {}
    deadline = time.monotonic() + _WAIT_SECONDS
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("deciding", total=len(run_ids))
        while len(ended) < len(run_ids) and time.monotonic() < deadline:
            for run_id in [one for one in run_ids if one not in ended]:
                try:
                    view = client.run(run_id)
                except NotAnsweredError:
                    continue
                if view is not None and view.status in _ENDED:
                    ended[run_id] = view
            progress.update(task, completed=len(ended))
            time.sleep(0.2)
    return ended


def _list(views: list[RunView], console: Console, json_: bool) -> None:
    if json_:
        emit({"runs": [view.model_dump(mode="json") for view in views]})
        return
    table = Table("run", "agent", "status", "accepted", "error")
    for view in views:
        table.add_row(view.run_id, view.agent, view.status, view.accepted_at[:19], escape(view.error or ""))
    console.print(table)


def _show(client: HoldfastClient, run_id: str, console: Console, json_: bool) -> None:
    view = demand(client, run_id, json_)
    steps, history = client.steps(run_id), client.history(run_id)
    if json_:
        told = {"steps": steps, "history": history}
        emit({"run": view.model_dump()} | {name: [one.model_dump() for one in many] for name, many in told.items()})
        return
    console.print(f"run {view.run_id}  {view.status}  accepted {view.accepted_at[:19]}  {escape(view.error or '')}")
    if view.rerun_of is not None:
        since = f" from operation {view.from_step}" if view.from_step else ""
        console.print(f"run {view.rerun_of} again{since}")
    if isinstance(view.output, dict):
        console.print_json(data=view.output.get("output"))
    lines = [(step.started, _lines(step)) for step in steps]
    lines += [(one.timestamp, f"signal {one.name}") for one in history if one.type == "eventRaised"]
    for at, text in sorted(lines, key=lambda line: line[0]):
        console.print(f"{at[11:23]}  {text}", markup=False, highlight=False, soft_wrap=True)


def _lines(step: StepView) -> str:
    asked = f" in {step.instance_id}" if step.instance_id else ""
    again = f", issued {step.issued} times" if step.issued > 1 else ""
    took = "open" if step.seconds is None else f"{step.seconds:.3f} s"
    told = [
        f"{step.ordinal} {step.kind} {step.name}{asked}, attempt {step.attempt}{again}, {took}",
        f"in   {_short(step.input)}",
    ]
    if step.error is not None:
        told.append(f"fail {step.error.type}: {step.error.message}")
    elif step.seconds is not None:
        told.append(f"out  {_short(step.output)}")
    return "\n                ".join(told)


def _short(value: JsonValue) -> str:
    if isinstance(value, dict):
        value = {key: one for key, one in value.items() if key not in _REPEATED}
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters; --json has them)"
