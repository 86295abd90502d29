"""Commands on runs: feed the agents from files of tickets, and look at what became of them."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from holdfast.client import HoldfastClient, NotAnsweredError, RunView
from holdfast.options import DOES_NOT_HOLD, UNCHECKED, as_json, deployment_options, emit, fails_as, refuse

if TYPE_CHECKING:
    from refund_desk import Ticket

__all__ = ["run", "runs"]

_START_SECONDS, _WAIT_SECONDS = 60.0, 600.0
_ENDED = frozenset({"completed", "failed", "terminated"})


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
    try:
        started, refused = _start_all(client, tickets, prefix, console)
    except NotAnsweredError as error:
        refuse(UNCHECKED, f"{error}; see `holdfast status`", json_=json_)
    ended = _wait_all(client, started, console) if wait else {}
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
  holdfast runs                    the newest runs
  holdfast runs --status failed    those that failed
  holdfast runs T-1001             one run with its steps"""
)
@click.argument("run_id", required=False)
@click.option("--status", metavar="STATUS", help="Only runs with this status; `open` for all that have not ended.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@deployment_options
@as_json
def runs(run_id: str | None, status: str | None, limit: int, stack: str, state: Path | None, json_: bool) -> None:
    """List runs, or show one with its steps."""
    with fails_as(json_):
        client = client_of(stack, state)
    console = Console()
    try:
        if run_id is None:
            _list(client.runs(status=status, limit=limit), console, json_)
        else:
            _show(client, run_id, console, json_)
    except NotAnsweredError as error:
        refuse(UNCHECKED, f"{error}; see `holdfast status`", json_=json_)


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


def _wait_all(client: HoldfastClient, run_ids: list[str], console: Console) -> dict[str, RunView]:
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
    table = Table("run", "status", "accepted", "error")
    for view in views:
        table.add_row(view.run_id, view.status, view.accepted_at[:19], escape(view.error or ""))
    console.print(table)


def _show(client: HoldfastClient, run_id: str, console: Console, json_: bool) -> None:
    view = client.run(run_id)
    if view is None:
        refuse(DOES_NOT_HOLD, f"no run {run_id} was accepted; `holdfast runs` lists them", json_=json_)
    history = client.history(run_id)
    if json_:
        emit({"run": view.model_dump(mode="json"), "history": [event.model_dump(mode="json") for event in history]})
        return
    console.print(f"run {view.run_id}  {view.status}  accepted {view.accepted_at[:19]}  {escape(view.error or '')}")
    if isinstance(view.output, dict):
        console.print_json(data=view.output.get("output"))
    table = Table("at", "step", "what", "attempt")
    for event in history:
        if event.type == "taskScheduled" and isinstance(event.input, dict):
            step = event.input
            row = (event.timestamp[11:23], step.get("ordinal"), f"{step.get('kind')} {step.get('name')}")
            table.add_row(*map(str, row), str(step.get("attempt")))
        elif event.type == "eventRaised":
            table.add_row(event.timestamp[11:23], "", f"signal {event.name}", "")
    console.print(table)
