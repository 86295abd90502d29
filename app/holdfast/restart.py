"""`holdfast restart`: restart processes of one region, one after the other."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from holdfast.options import UNCHECKED, as_json, deployment_options, emit, fails_as, refuse

__all__ = ["restart"]


@click.command(
    epilog="""\b
Examples:
  holdfast restart b region-agent api worker   the whole app of a standby, after new code came there
  holdfast restart a scheduler                 it was stopped; it keeps what it has stored
`holdfast status` shows the names; `worker` names every worker.
Exit codes: 0 each runs again, 1 one does not, 2 there is no such region or process."""
)
@click.argument("region", metavar="REGION")
@click.argument("processes", nargs=-1, required=True, metavar="PROCESS...")
@deployment_options
@as_json
def restart(region: str, processes: tuple[str, ...], stack: str, state: Path | None, json_: bool) -> None:
    """Restart each PROCESS of REGION in turn: it runs again before the next one is stopped.

    What is stopped is started. Where the region is active, runs that a process had in hand go on after their last
    completed operation.
    """
    from infra.manifest import Manifest
    from infra.restart import Restarted, chosen
    from infra.restart import restart as restart_all
    from infra.state import deployment_directory

    console = Console(stderr=json_)

    def ended(one: Restarted) -> None:
        console.print(f"{one.seconds:6.1f} s  {one.name} of region {region} runs again", highlight=False)

    with fails_as(json_):
        regions = Manifest.load(deployment_directory(stack, state)).regions
        if region not in regions:
            refuse(UNCHECKED, f"there is no region {region!r}; there are {', '.join(sorted(regions))}", json_=json_)
        try:
            names = chosen(regions[region], processes)
        except LookupError as error:
            refuse(UNCHECKED, str(error), json_=json_)
        done = restart_all(regions[region], names, ended)
    if json_:
        emit({"ok": True, "region": region, "restarted": [{"name": one.name, "seconds": one.seconds} for one in done]})
