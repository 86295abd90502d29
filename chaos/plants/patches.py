"""Patches that several planted bugs are made of."""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any


def name_the_process_in_keys(module: ModuleType) -> None:
    """An effect's key names the process that sends it. Patches `pydantic_ai_dapr.types`."""
    module.Operation.key = property(lambda self: f"{self.run_id}:{self.ordinal}:{os.getpid()}")


def keep_sidecars(module: Any) -> None:
    """A region that is active no more stops no sidecar. Patches `region_agent.activation`."""

    async def deactivate(self: Any, epoch: int) -> Any:
        return self.role_file.write("standby", epoch)

    module.RegionProcesses.deactivate = deactivate


def keep_workers(module: ModuleType) -> None:
    """A worker that has executed runs once goes on for ever. Patches `service.role`."""
    read, first = module.RoleFile.read, dict[str, Any]()

    def read_once(self: Any) -> Any:
        role = read(self)
        if role is not None and role.role == "active":
            first.setdefault("role", role)
        return first.get("role", role)

    # The API reads its role from the same module, and goes on to tell the truth.
    if "service.worker" in sys.orig_argv:
        module.RoleFile.read = read_once
