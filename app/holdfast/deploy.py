"""Commands on a deployment as a whole: up, down, status, switchover."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from holdfast.options import DOES_NOT_HOLD, as_json, deployment_options, emit, fails_as, refuse

if TYPE_CHECKING:
    from infra.automation import Outcome

_DID = {"create": "created", "update": "updated", "delete": "removed"}
_WOULD = {
    "create": "would be created",
    "update": "would be updated",
    "delete": "would be removed",
    "same": "stays",
}

__all__ = ["down", "status", "switchover", "up"]


@click.command(
    epilog="""\b
Examples:
  holdfast up                                two regions on this machine
  holdfast up -c workers=3 -c lease.ttl=30   with other settings, for this call
  holdfast up --state /tmp/second            a second deployment beside the first
Every key is in Pulumi.local.yaml, with its default and what it does."""
)
@deployment_options
@click.option(
    "-c",
    "--config",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting that differs from Pulumi.NAME.yaml; a dot for each level. May be repeated.",
)
@click.option("--preview", is_flag=True, help="Say what would change, and change nothing.")
@as_json
def up(stack: str, state: Path | None, overrides: tuple[str, ...], preview: bool, json_: bool) -> None:
    """Provision two regions and a witness, or repair what is dead.

    What is up and healthy stays as it is, so a second `up` changes nothing. An `up` that failed or was
    interrupted may be repeated.
    """
    from holdfast.progress import shown
    from infra.automation import Deployment

    console = Console(stderr=json_)
    with fails_as(json_):
        deployment = Deployment(stack, settings_of(overrides), state)
        if preview:
            outcome = deployment.preview()
        else:
            with shown(console) as listener:
                outcome = deployment.up(listener)
    if json_:
        emit({"ok": True, **_told(outcome)})
        return
    if preview:
        for part, operation in outcome.changes.items():
            _say(console, f"{part:<9} {_WOULD.get(operation, operation)}")
        return
    _say(console, f"{_changes(outcome)} in {outcome.seconds:.1f} s")
    for region in ("a", "b"):
        _say(console, f"  API of region {region}   {outcome.outputs.get(f'api_{region}', '')}")
    address = outcome.outputs.get("api_a", "")
    _say(
        console,
        f"  console           {address}/console, sign in with {deployment.directory}/secrets/console-operator-token",
    )
    _say(console, "next: `holdfast status`, `holdfast run tickets.jsonl`, `holdfast drill region-loss`")


@click.command(
    epilog="""\b
Examples:
  holdfast down
  holdfast down --state /tmp/second"""
)
@deployment_options
@as_json
def down(stack: str, state: Path | None, json_: bool) -> None:
    """Destroy the deployment and leave nothing behind.

    Stops every process, removes every file of the deployment, and checks that no process and no port is left.
    Reports of drills stay.
    """
    from holdfast.progress import shown
    from infra.automation import Deployment
    from infra.local.leftovers import known_ports, leftovers

    console = Console(stderr=json_)
    with fails_as(json_):
        deployment = Deployment(stack, {}, state)
        if not deployment.exists and not leftovers(deployment.directory):
            if json_:
                emit({"ok": True, "changes": {}})
            else:
                _say(console, f"nothing is deployed in {deployment.directory}")
            return
        used_ports = known_ports(deployment.directory)
        with shown(console) as listener:
            outcome = deployment.destroy(listener)
        left = leftovers(deployment.directory, used_ports)
    if left:
        refuse(DOES_NOT_HOLD, f"not everything is gone: {left}. Repeat `holdfast down`", json_=json_)
    if json_:
        emit({"ok": True, **_told(outcome)})
    else:
        _say(console, f"gone in {outcome.seconds:.1f} s: no process, no port, no file is left")


@click.command(
    epilog="""\b
Examples:
  holdfast status
  holdfast status --json | jq .active
Exit code: 0 all is well, 1 something is wrong, 2 there is nothing to look at."""
)
@deployment_options
@as_json
def status(stack: str, state: Path | None, json_: bool) -> None:
    """Show regions, roles, replication and links; what is wrong, and the next command."""
    from holdfast.picture import draw
    from infra.diagnosis import problems
    from infra.manifest import Manifest
    from infra.state import deployment_directory
    from infra.status import observe

    with fails_as(json_):
        seen = observe(Manifest.load(deployment_directory(stack, state)))
    found = problems(seen)
    if json_:
        listed = [{"what": problem.what, "next": problem.next} for problem in found]
        emit({"ok": not found, **seen.to_json(), "problems": listed})
    else:
        Console().print(draw(seen, found))
    sys.exit(DOES_NOT_HOLD if found else 0)


@click.command(
    epilog="""\b
Examples:
  holdfast switchover          to the region that is standby now
  holdfast switchover --to a   to region a"""
)
@deployment_options
@click.option("--to", metavar="REGION", help="The region to make active. [default: the standby]")
@click.option(
    "--timeout",
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(min=1),
    help="Deadline.",
)
@as_json
def switchover(stack: str, state: Path | None, to: str | None, timeout: float, json_: bool) -> None:
    """Move the active role to the other region, as planned.

    No acknowledged write is lost and no run fails: runs go on in the other region from their last completed
    step. Refused unless the standby replicates synchronously.
    """
    from infra.doors import Doors
    from infra.manifest import Manifest
    from infra.state import deployment_directory
    from infra.switchover import Phase, switch_over

    console = Console(stderr=json_)

    def ended(phase: Phase) -> None:
        _say(console, f"{phase.seconds:6.1f} s  {phase.name}")

    with fails_as(json_), Doors(Manifest.load(deployment_directory(stack, state))) as doors:
        moved = switch_over(doors, to, ended, timeout)
    if json_:
        phases = [{"name": phase.name, "seconds": phase.seconds} for phase in moved.phases]
        emit({"ok": True, "from": moved.source, "to": moved.target, "epoch": moved.epoch, "phases": phases})
    else:
        _say(console, f"region {moved.target} is active, epoch {moved.epoch}")


def settings_of(overrides: tuple[str, ...]) -> dict[str, str]:
    settings: dict[str, str] = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{override!r} is not KEY=VALUE, such as workers=3", param_hint="--config")
        settings[key] = value
    return settings


def _told(outcome: Outcome) -> dict[str, object]:
    return {
        "changed": outcome.changed,
        "changes": dict(outcome.changes),
        "unhealthy": dict(outcome.unhealthy),
        "seconds": outcome.seconds,
        "outputs": dict(outcome.outputs),
    }


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _changes(outcome: Outcome) -> str:
    counts = Counter(operation for operation in outcome.changes.values() if operation != "same")
    if not counts:
        return "nothing changed: all parts are up"
    return ", ".join(
        f"{count} {'part' if count == 1 else 'parts'} {_DID.get(operation, operation)}"
        for operation, count in counts.items()
    )
