"""What the API stands on, and what every handler needs of it."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi import Path as PathParameter
from pydantic_ai_dapr import HistoryTamperedError, PayloadLostError, RunInput, StateStore, WorkflowUnavailableError
from run_index import AuditLog, IndexedRun, IndexUnavailableError, NotStorableError, RunIndex
from serving import Problem

from service.config import ServiceConfig
from service.hosting import HostedAgent
from service.role import Role, RoleFile
from service.sidecars import Sidecars, Workflows

log = logging.getLogger(__name__)

SCHEDULE_WITHIN_SECONDS = 5.0

RunId = Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
"""A run's id as clients choose it."""
InstanceId = Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9._~:-]{1,200}$")]
"""A run's id, or that of what was made of it: a rerun's has a `~`, and what a run asked another agent, a `.`."""


@dataclass(frozen=True)
class Region:
    """What the API stands on."""

    config: ServiceConfig
    hosted: HostedAgent
    index: RunIndex
    audit: AuditLog
    sidecars: Sidecars
    store: StateStore
    role_file: RoleFile

    def role(self) -> Role | None:
        """What the region agent says that this region is, or None where it hasn't said."""
        return self.role_file.read()

    def demand_active(self) -> Role:
        """The role, or the problem that names the other region."""
        role = self.role()
        if role is not None and role.role == "active":
            return role
        if role is not None and role.role == "activating":
            raise Problem(503, "activating", "this region is becoming active; try again", headers={"Retry-After": "1"})
        peer = next(iter(self.config.peers.values()), None)
        raise Problem(
            503,
            "not the active region",
            f"region {self.config.region} is standby; ask the active region",
            headers={"Retry-After": "1"},
            active_url=peer,
        )

    def known(self, run_id: str) -> IndexedRun:
        """An accepted run, or the problem that there is none."""
        indexed = self.index.get(run_id)
        if indexed is None:
            raise Problem(404, "not found", f"no run {run_id} was accepted")
        return indexed

    def schedule(self, run: IndexedRun) -> None:
        """Give a run its workflow now; where that fails the region agent does it later: it is accepted already."""

        def begin(client: Workflows) -> None:
            if run.rerun_of is not None and run.rerun_step is not None:
                client.rerun_from(run.rerun_of, run.rerun_step, run.run_id)
            else:
                client.start(run.run_id, RunInput.model_validate(run.input), timeout=SCHEDULE_WITHIN_SECONDS)

        try:
            self.sidecars.ask(begin)
            self.index.mark_scheduled(run.run_id)
        except (WorkflowUnavailableError, IndexUnavailableError, ValueError) as error:
            log.warning(
                "run %s is accepted and not scheduled yet: %s",
                run.run_id,
                error,
                extra={"about": {"run_id": run.run_id}},
            )


def _active_region(request: Request) -> Region:
    region: Region = request.app.state.region
    region.demand_active()
    return region


ActiveRegion = Annotated[Region, Depends(_active_region)]


@contextmanager
def failures_are_problems() -> Generator[None]:
    """A database or a sidecar that doesn't answer is the region's condition; a value it can't hold, the request's."""
    try:
        yield
    except HistoryTamperedError as error:
        log.error("tampered with: %s", error)
        raise Problem(410, "tampered with", str(error)) from error
    except (IndexUnavailableError, WorkflowUnavailableError) as error:
        log.warning("unavailable: %s", error)
        raise Problem(503, "unavailable", f"{error}; try again", headers={"Retry-After": "1"}) from error
    except NotStorableError as error:
        raise Problem(422, "invalid request", str(error)) from error
    except PayloadLostError as error:
        raise Problem(410, "not whole any more", str(error)) from error
