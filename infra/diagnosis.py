"""What is wrong with a deployment, judged from its status, with the next thing to do about each.

Nothing wrong means: one region is active, the other follows it synchronously, every process that should run
does, no link is disturbed and no run is stuck.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infra.restart import runs_only_where_active
from infra.status import DeploymentStatus, RegionStatus, SiteStatus

__all__ = ["Problem", "problems"]

REPAIR = "holdfast up"
LOOK = "holdfast status"


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be, and what to do about it."""

    what: str
    next: str


def problems(status: DeploymentStatus) -> list[Problem]:
    """Everything that is wrong, the gravest first."""
    return [*_roles(status), *_sites(status), *_replication(status), *_links(status), *_runs(status)]


def _roles(status: DeploymentStatus) -> Iterator[Problem]:
    active = [region.name for region in status.regions if region.role == "active"]
    if len(active) > 1:
        yield Problem(
            f"regions {' and '.join(active)} both say that they are active: one is about to step down",
            f"`{LOOK}` again; if it stays so, keep the events files of both regions and report it",
        )
    if not active:
        said = ", ".join(f"{region.name} {_told(region)}" for region in status.regions)
        yield Problem(f"no region is active ({said})", f"wait for a failover to end (`{LOOK}`), or `{REPAIR}`")
    for region in status.regions:
        if active and region.error:
            yield Problem(f"the agent of region {region.name}: {region.error}", f"`{REPAIR}`")


def _told(region: RegionStatus) -> str:
    return "does not answer" if region.error else f"is {region.role}"


def _sites(status: DeploymentStatus) -> Iterator[Problem]:
    for site in status.sites:
        if not site.answers:
            yield Problem(f"{site.name} does not run: its supervisor gives {site.error}", f"`{REPAIR}`")
            continue
        down = [one for one in site.processes if not one.running and not _rests(status, site, one.name)]
        if down:
            told = ", ".join(f"{process.name} ({process.state.lower()})" for process in down)
            yield Problem(f"{site.name}: {told} does not run", f"`{_mended(site, [one.name for one in down])}`")


def _mended(site: SiteStatus, down: Sequence[str]) -> str:
    """What starts them: `up` looks only at what runs in every region."""
    if all(map(runs_only_where_active, down)):
        return f"holdfast restart {site.name.removeprefix('region-')} {' '.join(down)}"
    return REPAIR


def _rests(status: DeploymentStatus, site: SiteStatus, process: str) -> bool:
    """Whether a process is meant to be stopped: only an active region runs Dapr's scheduler and sidecars."""
    active = f"region-{status.active}" == site.name
    return not active and runs_only_where_active(process)


def _replication(status: DeploymentStatus) -> Iterator[Problem]:
    if status.active is None:
        return
    for region in status.regions:
        if region.name == status.active:
            continue
        database = region.database
        if database.role != "sync_standby" or not database.streaming:
            yield Problem(
                f"region {region.name} is no synchronous standby (its database is {database.role}, "
                f"{database.state}): a loss of region {status.active} now could lose what is not replicated",
                f"wait until it has caught up (`{LOOK}`), or `{REPAIR}`",
            )


def _links(status: DeploymentStatus) -> Iterator[Problem]:
    unknown = [link.name for link in status.links if link.enabled is None]
    if unknown:
        yield Problem(f"{len(unknown)} of {len(status.links)} links have no proxy", f"`{REPAIR}`")
    heal = f"the experiment that disturbs it heals it; without one: `curl -X POST {status.toxiproxy}/reset`"
    for link in status.links:
        if link.enabled is False:
            yield Problem(f"link {link.name} is cut", heal)
        elif link.toxics:
            yield Problem(f"link {link.name} is disturbed: {'; '.join(link.toxics)}", heal)


def _runs(status: DeploymentStatus) -> Iterator[Problem]:
    for region in status.regions:
        if region.stuck_runs:
            shown = ", ".join(region.stuck_runs[:5]) + (" …" if len(region.stuck_runs) > 5 else "")
            yield Problem(
                f"{len(region.stuck_runs)} runs in region {region.name} make no progress: {shown}",
                f"`holdfast runs {region.stuck_runs[0]}` shows where it stands",
            )
