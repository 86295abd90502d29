"""Commands on what runs did: take a history away, check it where no deployment is, and run a run again."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from holdfast.client import HoldfastClient, NotAnsweredError
from holdfast.options import DOES_NOT_HOLD, UNCHECKED, as_json, deployment_options, emit, fails_as, refuse
from holdfast.runs import answered, client_of, demand, wait_all
from infra.topology import Settings

if TYPE_CHECKING:
    from pydantic_ai_dapr import Export

__all__ = ["export", "replay", "rerun", "verify"]

_RERUN_SECONDS, AGAIN_SECONDS = 60.0, 0.5
_DEPLOYED = Settings(name="", directory=Path())
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    epilog="""\b
Examples:
  holdfast export T-1001                 to T-1001.json, with the signatures
  holdfast export T-1001 evidence.json   to another file
The file holds everything that the run's tools saw: treat it as such."""
)
@click.argument("run_id")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@deployment_options
@as_json
def export(run_id: str, file: Path | None, stack: str, state: Path | None, json_: bool) -> None:
    """Write a run's whole history to FILE. [default: RUN_ID.json]"""
    with fails_as(json_), answered(json_):
        client = client_of(stack, state)
        demand(client, run_id, json_)
        content = client.export(run_id)
    found, written = json.loads(content), file or Path(f"{run_id}.json")
    try:
        written.write_bytes(content)
    except OSError as error:
        refuse(UNCHECKED, f"{written} can't be written: {error.strerror}", json_=json_)
    events, signatures = len(found["events"]), len(found["signatures"])
    if json_:
        emit({"ok": True, "run_id": run_id, "file": str(written), "events": events, "signatures": signatures})
    else:
        click.echo(f"{run_id}: {events} events, {signatures} signatures, in {written}")
        click.echo(f"next: `holdfast verify {written}`, `holdfast replay {written}`")


@click.command(
    epilog="""\b
Examples:
  holdfast verify T-1001.json                             by this deployment's root
  holdfast verify T-1001.json --trust-anchors root.crt    by a root that you keep elsewhere
Exit codes: 0 every event is proven, 1 one is not, 2 it could not be checked."""
)
@click.argument("file", type=_FILE)
@click.option(
    "--trust-anchors",
    type=_FILE,
    metavar="PEM",
    help="The root, never from whoever gave you FILE.  [default: the deployment's]",
)
@click.option(
    "--signer",
    metavar="SPIFFE",
    help="Who must have signed: spiffe://DOMAIN/ns/NAMESPACE/APP-ID.  [default: the deployment's]",
)
@deployment_options
@as_json
def verify(
    file: Path, trust_anchors: Path | None, signer: str | None, stack: str, state: Path | None, json_: bool
) -> None:
    """Check the signatures of an export: who recorded it, and that nothing was changed since."""
    from pydantic_ai_dapr import verify as verify_export

    if trust_anchors is None:
        trust_anchors, signer = _of_deployment(stack, state, signer, json_)
    history = _load(file, json_)
    try:
        found = verify_export(history, trust_anchors.read_bytes(), signer)
    except (OSError, ValueError) as error:
        refuse(UNCHECKED, f"{trust_anchors} has no trust anchors: {error}", json_=json_)
    if json_:
        told = {"events": found.events, "proven": found.proven, "reason": found.reason, "signers": found.signers}
        emit({"ok": found.valid, "run_id": history.instance_id, **told, "ended": found.ended})
    else:
        by = ", ".join(found.signers) or "nobody"
        click.echo(f"{history.instance_id}: {found.proven} of {found.events} events are proven, signed by {by}")
        if not found.valid:
            click.echo(f"event {found.proven}: {found.reason}")
        elif not found.ended:
            click.echo("the history has no end: the run had not ended, or the end was cut off")
    sys.exit(0 if found.valid else DOES_NOT_HOLD)


@click.command(
    epilog="""\b
Examples:
  holdfast replay T-1001.json                                  the code here, on what was recorded there
  holdfast replay T-1001.json --agent my_desk.hosted:hosted    an agent of your own
It needs no deployment, asks no model and calls no tool.
Exit codes: 0 the code does the same, 1 it does something else, 2 it could not be checked."""
)
@click.argument("file", type=_FILE)
@click.option(
    "--agent",
    default="refund_desk:hosted",
    show_default=True,
    metavar="MODULE:ATTRIBUTE",
    help="The agent, as a region hosts it.",
)
@click.option("--model", default=_DEPLOYED.model, show_default=True, metavar="NAME", help="As the deployment has it.")
@click.option(
    "--max-iterations",
    default=_DEPLOYED.max_iterations,
    show_default=True,
    type=click.IntRange(1),
    help="As the deployment has it.",
)
@as_json
def replay(file: Path, agent: str, model: str, max_iterations: int, json_: bool) -> None:
    """Run an agent's code over an export, and prove that it does the same, or show the first difference."""
    from pydantic_ai.exceptions import UserError
    from pydantic_ai_dapr import PayloadLostError
    from service.replay import replayed

    history = _load(file, json_)
    try:
        report = replayed(history, agent, model, max_iterations)
    except (PayloadLostError, UserError, ValueError) as error:
        refuse(UNCHECKED, str(error), json_=json_)
    difference = report.difference
    if json_:
        told = {"events": report.events, "actions": report.actions, "difference": difference and str(difference)}
        emit({"ok": report.same, "run_id": report.instance_id, **told})
    elif difference is not None:
        click.echo(f"{report.instance_id}: {difference}")
    else:
        did = f"{report.actions} actions over {report.events} events"
        click.echo(f"{report.instance_id}: the code does the same, {did}")
    sys.exit(0 if report.same else DOES_NOT_HOLD)


@click.command(
    epilog="""\b
Examples:
  holdfast rerun T-1001             everything again, as T-1001~2, under the old idempotency keys
  holdfast rerun T-1001 --from 6    operation 6 and what follows; those before keep their answers
  holdfast rerun T-1001 --fresh     under new keys: effects are applied again
Under the old keys a target that has applied an effect answers as it did, and applies nothing twice.
Exit codes: 0 the rerun completed, 1 it did not or can't be, 2 it could not be tried."""
)
@click.argument("run_id")
@click.option("--from", "from_step", type=click.IntRange(1), metavar="STEP", help="From this operation on.")
@click.option("--fresh", is_flag=True, help="Under idempotency keys of its own.")
@click.option("--wait/--no-wait", default=True, help="Wait until it has ended.  [default: wait]")
@deployment_options
@as_json
def rerun(
    run_id: str,
    from_step: int | None,
    fresh: bool,
    wait: bool,
    stack: str,
    state: Path | None,
    json_: bool,
) -> None:
    """Run an ended run again beside the old one, whole or from a step."""
    if fresh and from_step is not None:
        raise click.UsageError("--from keeps answers that belong to the old keys; leave --fresh or --from out")
    console = Console(stderr=True)
    with fails_as(json_), answered(json_):
        client = client_of(stack, state)
        demand(client, run_id, json_)
        new_id = _rerun(client, run_id, from_step, fresh, json_)
    view = wait_all(client, [new_id], console).get(new_id) if wait else None
    holds = not wait or (view is not None and view.status == "completed")
    status = view.status if view else "not ended yet" if wait else "not waited for"
    if json_:
        emit({"ok": holds, "run_id": new_id, "rerun_of": run_id, "status": view.status if view else None})
    else:
        click.echo(f"{new_id}: {status}{f', {view.error}' if view and view.error else ''}")
        click.echo(f"next: `holdfast runs {new_id}`")
    sys.exit(0 if holds else DOES_NOT_HOLD)


def _rerun(client: HoldfastClient, run_id: str, from_step: int | None, fresh: bool, json_: bool) -> str:
    """The rerun's id, which is the first run's with the next number."""
    first = run_id.partition("~")[0]
    others = (view.run_id.partition("~") for view in client.runs(id_contains=f"{first}~"))
    new_id = f"{first}~{max([1, *(int(number) for root, _, number in others if root == first)]) + 1}"
    deadline = time.monotonic() + _RERUN_SECONDS
    while True:
        answer = client.rerun(run_id, new_id, from_step=from_step, fresh=fresh)
        if answer.outcome == "ok":
            return new_id
        if answer.outcome == "refused":
            code = UNCHECKED if answer.status == 422 else DOES_NOT_HOLD
            refuse(code, f"{run_id} was not run again: {answer.detail}", json_=json_)
        if time.monotonic() > deadline:
            raise NotAnsweredError(
                f"whether {new_id} was started is unknown after {_RERUN_SECONDS:g} s ({answer.detail}); "
                f"`holdfast runs {new_id}` tells"
            )
        time.sleep(AGAIN_SECONDS)


def _load(file: Path, json_: bool) -> Export:
    from pydantic_ai_dapr import Export, ExportError

    try:
        return Export.load(file)
    except (ExportError, OSError) as error:
        refuse(UNCHECKED, str(error), json_=json_)


def _of_deployment(stack: str, state: Path | None, signer: str | None, json_: bool) -> tuple[Path, str]:
    from infra.manifest import Manifest, NoManifest
    from infra.state import deployment_directory

    with fails_as(json_):
        try:
            manifest = Manifest.load(deployment_directory(stack, state))
        except NoManifest as error:
            refuse(UNCHECKED, f"{error}; or name a root that you trust with --trust-anchors", json_=json_)
    return manifest.ca, signer or manifest.signer
