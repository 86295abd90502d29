"""Which role the region has: the database's, and nothing else's."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from region_agent.patroni import Member

RoleName = Literal["active", "activating", "standby"]
UNCLEAR_SECONDS = 2.0
"""How long the database may say nothing, or that it is a primary that doesn't run, before it is asked itself."""
ASKED_SECONDS = 1.0
"""What it gets for an answer, the lease store's before it included. None is a no."""
LEASE_MARGIN_SECONDS = 2
"""How much of the lease must be left: the region is standby before the other may begin."""


class Role(BaseModel):
    """What the role file says. `epoch` is the database's timeline."""

    model_config = ConfigDict(frozen=True)

    region: str
    role: RoleName
    epoch: int
    since: datetime


@dataclass(frozen=True)
class Wanted:
    """The role that the database gives the region, or `unclear`."""

    role: Literal["active", "standby", "unclear"]
    epoch: int = 0


def wanted_role(member: Member | None) -> Wanted:
    """Active while the member runs as primary with the lease, standby when it is none or ceases to be, else unclear."""
    if member is not None and member.is_primary and member.timeline is not None:
        return Wanted("active", member.timeline)
    if member is not None and (member.is_standby or member.is_stopping):
        return Wanted("standby", member.timeline or 0)
    return Wanted("unclear")


@dataclass
class RoleFile:
    """The region's role on disk, for its workers and its API. A reader sees the old role or the new one, whole."""

    path: Path
    region: str

    def read(self) -> Role | None:
        """The role that was last written, also by an earlier process."""
        try:
            return Role.model_validate_json(self.path.read_bytes())
        except (OSError, ValidationError):
            return None

    def write(self, role: RoleName, epoch: int) -> Role:
        """Write a role. `since` stays while the role does."""
        before = self.read()
        since = before.since if before is not None and before.role == role else datetime.now(UTC)
        written = Role(region=self.region, role=role, epoch=epoch, since=since)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".new")
        draft.write_text(json.dumps(written.model_dump(mode="json")), encoding="utf-8")
        os.replace(draft, self.path)
        return written
