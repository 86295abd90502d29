"""`holdfast approve`: decide what a run waits for a person to decide."""

from __future__ import annotations

import getpass
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from holdfast.options import DOES_NOT_HOLD, UNCHECKED, as_json, deployment_options, emit, fails_as, refuse
from holdfast.runs import answered, client_of, demand

__all__ = ["approve"]


@click.command(
    epilog="""\b
Examples:
  holdfast approve T-1001                          let the one call that T-1001 waits for go on
  holdfast approve T-1001 --deny --message 'twice a year at most'
  holdfast approve T-1001 --call call-3-refund     one of several
  holdfast approve T-1001 --list                   what it waits for
Exit codes: 0 it is decided, 1 there is nothing to decide, 2 it could not be tried."""
)
@click.argument("run_id")
@click.option("--call", "call_id", metavar="ID", help="Which call. [default: the only one that waits]")
@click.option("--deny", is_flag=True, help="The call is not made; the model is told so.")
@click.option("--message", metavar="TEXT", help="What the model is told of a denied call.")
@click.option("--who", metavar="NAME", help="Who decides; it is kept in the run's history. [default: your account]")
@click.option("--list", "list_", is_flag=True, help="Show what waits, and decide nothing.")
@deployment_options
@as_json
def approve(
    run_id: str,
    call_id: str | None,
    deny: bool,
    message: str | None,
    who: str | None,
    list_: bool,
    stack: str,
    state: Path | None,
    json_: bool,
) -> None:
    """Decide a tool call that RUN_ID waits for. The first decision counts."""
    console = Console()
    with fails_as(json_), answered(json_):
        client = client_of(stack, state)
        demand(client, run_id, json_)
        calls = client.waiting(run_id) if call_id is None or list_ else []
        if list_:
            if json_:
                emit({"ok": True, "waiting": [one.model_dump() for one in calls]})
            for one in calls if not json_ else []:
                console.print(f"{one.tool_call_id}  {one.tool}  {escape(str(one.arguments))}", highlight=False)
            return
        if call_id is None:
            if len(calls) != 1:
                names = f"{len(calls)} calls ({', '.join(one.tool_call_id for one in calls)}): choose one with --call"
                refuse(DOES_NOT_HOLD, f"run {run_id} waits for {names if calls else 'no decision'}", json_=json_)
            call_id = calls[0].tool_call_id
        answer = client.approve(run_id, call_id, approved=not deny, who=who or getpass.getuser(), message=message)
    if answer.outcome == "refused":
        refuse(DOES_NOT_HOLD, answer.detail, json_=json_)
    if answer.outcome == "unknown":
        refuse(UNCHECKED, f"no answer ({answer.detail}); the same command may be repeated", json_=json_)
    if json_:
        emit({"ok": True, "run_id": run_id, "tool_call_id": call_id, "approved": not deny})
    else:
        console.print(f"run {run_id}: call {call_id} is {'denied' if deny else 'approved'}", highlight=False)
