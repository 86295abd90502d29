"""A planned move of the active role: no acknowledged write is lost, and no run fails.

It is refused unless the standby holds every acknowledged change, so that Patroni can hand the lease over at a
point that both agree on. Nothing here promotes: Patroni does, and the region agents follow it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from infra.doors import Doors, Unanswered
from infra.status import DeploymentStatus, RegionStatus, observe

__all__ = ["Moved", "NotFinished", "NotPossible", "Phase", "switch_over"]

_POLL_SECONDS = 0.1


class NotPossible(RuntimeError):
    """The deployment is in no state to be switched over; nothing was changed."""


class NotFinished(RuntimeError):
    """The switchover was begun, and did not end as it should in time."""


@dataclass(frozen=True)
class Phase:
    """A step of the switchover that has ended, in seconds since the begin."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Moved:
    """Where the active role went, and when each phase was over."""

    source: str
    target: str
    epoch: int | None
    phases: tuple[Phase, ...]

    @property
    def seconds(self) -> float:
        """From the request until the new region was active and the old one standby."""
        return self.phases[-1].seconds


def switch_over(
    doors: Doors,
    to: str | None = None,
    on_phase: Callable[[Phase], None] = lambda _: None,
    deadline_seconds: float = 60.0,
) -> Moved:
    """Moves the active role to region `to`, by default to the one that is standby now."""
    status = observe(doors.manifest, doors)
    source, target = _checked(status, to)
    started = time.monotonic()
    phases: list[Phase] = []

    def ended(name: str) -> None:
        phase = Phase(name, time.monotonic() - started)
        phases.append(phase)
        on_phase(phase)

    try:
        doors.switch_over(source.name, source.database.name, target.database.name, deadline_seconds)
    except Unanswered as error:
        raise NotFinished(f"Patroni of region {source.name} {error}: see `holdfast status`, then try again") from error
    ended(f"the database of region {target.name} is primary")
    deadline = started + deadline_seconds
    epoch = _await_role(doors, target.name, "active", deadline)
    ended(f"region {target.name} is active")
    _await_role(doors, source.name, "standby", deadline)
    ended(f"region {source.name} is standby")
    return Moved(source.name, target.name, epoch, tuple(phases))


def _checked(status: DeploymentStatus, to: str | None) -> tuple[RegionStatus, RegionStatus]:
    """The region that is active and the one that can take over."""
    if status.active is None:
        roles = ", ".join(f"{region.name}: {region.error or region.role}" for region in status.regions)
        raise NotPossible(f"no single region is active ({roles}): see `holdfast status`")
    names = [region.name for region in status.regions]
    if to is not None and to not in names:
        raise NotPossible(f"there is no region {to!r}: there are {' and '.join(names)}")
    if to == status.active:
        raise NotPossible(f"region {to} is active already: nothing to do")
    source = status.region(status.active)
    target = status.region(to or next(name for name in names if name != status.active))
    database = target.database
    if target.role != "standby":
        raise NotPossible(
            f"region {target.name} is not standby ({target.error or target.role}): wait until it is, "
            f"or `holdfast up` repairs it"
        )
    if database.role != "sync_standby" or not database.streaming:
        raise NotPossible(
            f"the database of region {target.name} is no synchronous, streaming standby (it is "
            f"{database.role}, {database.state}): what it lacks would be lost; wait until it has caught up"
        )
    return source, target


def _await_role(doors: Doors, region: str, role: str, deadline: float) -> int | None:
    last = "nothing"
    while time.monotonic() < deadline:
        try:
            said = doors.agent_status(region)
            last = str(said.get("role"))
            if last == role:
                epoch = said.get("epoch")
                return epoch if isinstance(epoch, int) else None
        except Unanswered as error:
            last = str(error)
        time.sleep(_POLL_SECONDS)
    raise NotFinished(
        f"waited for region {region} to be {role}; last it said {last}: see `holdfast status` and the region's log"
    )
