"""The region that is active no more stops neither its sidecars nor its workers."""

import sys
from types import ModuleType
from typing import Any

from chaos.plants.hook import after_import


def _keep_sidecars(module: Any) -> None:
    async def deactivate(self: Any, epoch: int) -> Any:
        return self.role_file.write("standby", epoch)

    module.RegionProcesses.deactivate = deactivate


def _stay(module: ModuleType) -> None:
    read, first = module.RoleFile.read, dict[str, Any]()

    def read_once(self: Any) -> Any:
        role = read(self)
        if role is not None and role.role == "active":
            first.setdefault("role", role)
        return first.get("role", role)

    # The API reads its role from the same module, and goes on to tell the truth.
    if "service.worker" in sys.orig_argv:
        module.RoleFile.read = read_once


after_import("region_agent.activation", _keep_sidecars)
after_import("service.role", _stay)
