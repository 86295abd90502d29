"""The region's role, as the region agent last wrote it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError


class Role(BaseModel):
    """Who the region is. `epoch` is the database's timeline, the fencing token of effects."""

    model_config = ConfigDict(frozen=True)

    region: str
    role: Literal["active", "activating", "standby"]
    epoch: int
    since: datetime


def told(region: str, role: Role | None) -> dict[str, JsonValue]:
    """What a process of the region says in each line of its log."""
    return {"region": region, "role": role.role if role else None, "epoch": role.epoch if role else None}


@dataclass
class RoleFile:
    """Reads the role file only when it has changed, so that looking often costs next to nothing."""

    path: Path
    _stamp: tuple[int, int] | None = None
    _role: Role | None = None

    def read(self) -> Role | None:
        """The role, or None while the region agent has not written one."""
        try:
            stat = os.stat(self.path)
        except FileNotFoundError:
            self._stamp = self._role = None
            return None
        stamp = (stat.st_mtime_ns, stat.st_ino)
        if stamp != self._stamp:
            try:
                self._role = Role.model_validate_json(self.path.read_bytes())
            except (ValidationError, FileNotFoundError):
                return None
            self._stamp = stamp
        return self._role
