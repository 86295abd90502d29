"""Draws a deployment's status for a person: who is active, what follows, what is wrong, what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from infra.diagnosis import Problem
    from infra.status import DeploymentStatus, LinkStatus, RegionStatus, SiteStatus

__all__ = ["draw"]

_COLOURS = {"active": "green", "activating": "yellow", "standby": "cyan"}


def draw(status: DeploymentStatus, problems: Sequence[Problem]) -> RenderableType:
    """The whole picture."""
    sites = {site.name: site for site in status.sites}
    regions = [_region(region, sites.get(f"region-{region.name}")) for region in status.regions]
    others = [_site(site) for name, site in sites.items() if not name.startswith("region-")]
    parts: list[RenderableType] = [
        Text.assemble("deployment ", (status.name, "bold"), (f"  {status.directory}", "dim")),
        _beside(regions),
        Text(f"replication  {_replication(status)}"),
        Text(f"links        {_links(status.links)}"),
        *others,
    ]
    return Group(*parts, _verdict(problems))


def _beside(panels: Sequence[RenderableType]) -> Table:
    grid = Table.grid(expand=True)
    for _ in panels:
        grid.add_column(ratio=1)
    grid.add_row(*panels)
    return grid


def _region(region: RegionStatus, site: SiteStatus | None) -> Panel:
    colour = _COLOURS.get(region.role, "red")
    grid = Table.grid(padding=(0, 2))
    grid.add_row("role", Text(region.role if not region.error else f"unknown: {region.error}", f"bold {colour}"))
    grid.add_row("epoch", _known(region.epoch))
    database = region.database
    grid.add_row("database", f"{database.role}, {database.state}" if not database.error else database.error)
    grid.add_row("runs", f"{_known(region.open_runs)} open, {len(region.stuck_runs)} stuck")
    grid.add_row("API", region.api)
    if site is not None:
        grid.add_row("processes", _processes(site))
    return Panel(grid, title=f"region {region.name}", border_style=colour)


def _processes(site: SiteStatus) -> Text:
    if not site.answers:
        return Text(f"none: {site.error}", "red")
    text = Text()
    for process in site.processes:
        style = "green" if process.running else "dim"
        restarts = f"↻{process.restarts}" if process.restarts else ""
        text.append(f"{'●' if process.running else '○'}{process.name}{restarts}  ", style)
    return text


def _site(site: SiteStatus) -> Text:
    return Text.assemble(f"{site.name:<12} ", _processes(site))


def _replication(status: DeploymentStatus) -> str:
    if status.active is None:
        return "no active region"
    followers = [region for region in status.regions if region.name != status.active]
    told: list[str] = []
    for region in followers:
        database = region.database
        kind = "synchronous" if database.role == "sync_standby" else f"NOT synchronous ({database.role})"
        lag = "" if database.lag_bytes is None else f", {database.lag_bytes} bytes behind"
        told.append(f"{status.active} ──▶ {region.name}  {kind}, {database.state}{lag}")
    return "; ".join(told)


def _links(links: Sequence[LinkStatus]) -> str:
    disturbed = [link for link in links if link.disturbed]
    if not disturbed:
        return f"{len(links)} open, none disturbed"
    return "; ".join(f"{link.name}: {', '.join(link.toxics) or 'cut'}" for link in disturbed)


def _verdict(problems: Sequence[Problem]) -> RenderableType:
    if not problems:
        return Text("everything is as it should be", "green")
    table = Table.grid(padding=(0, 1))
    for problem in problems:
        table.add_row(Text("✗", "red"), Text(problem.what))
        table.add_row("", Text.assemble("next: ", (problem.next, "bold")))
    return table


def _known(value: int | None) -> str:
    return "?" if value is None else str(value)
