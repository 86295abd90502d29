"""The payments service takes effects of any epoch, and the old region goes on."""

import dataclasses
import sys
from types import ModuleType
from typing import Any

from chaos.plants.hook import after_import


def _take_all(module: Any) -> None:
    judge = module.Ledger._judge

    def judge_without_epoch(self: Any, kind: str, caller: Any, digest: str, payload: dict[str, Any]) -> Any:
        return judge(self, kind, dataclasses.replace(caller, epoch=self._epoch), digest, payload)

    module.Ledger._judge = judge_without_epoch


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


after_import("refund_desk.payments.ledger", _take_all)
after_import("region_agent.activation", _keep_sidecars)
after_import("service.role", _stay)
