"""The payments service takes effects of any epoch, and the old region goes on.

Where keys are right, what an old region does late is a duplicate, and the fence is a second one behind them. So here
an effect's key names its process, and what region a sends is late.
"""

import asyncio
import dataclasses
import os
import sys
from types import ModuleType
from typing import Any

from chaos.plants.hook import after_import

LATE_SECONDS = 5.0


def _take_all(module: Any) -> None:
    judge = module.Ledger._judge

    def judge_without_epoch(self: Any, kind: str, caller: Any, digest: str, payload: dict[str, Any]) -> Any:
        return judge(self, kind, dataclasses.replace(caller, epoch=self._epoch), digest, payload)

    module.Ledger._judge = judge_without_epoch


def _forget_the_key(module: ModuleType) -> None:
    module.Operation.key = property(lambda self: f"{self.run_id}:{self.ordinal}:{os.getpid()}")


def _be_late(module: ModuleType) -> None:
    apply = module.HttpEffects.apply

    async def apply_late(self: Any, kind: str, payload: dict[str, Any]) -> Any:
        if self.config.region == "a":
            await asyncio.sleep(LATE_SECONDS)
        return await apply(self, kind, payload)

    module.HttpEffects.apply = apply_late


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
after_import("pydantic_ai_dapr.types", _forget_the_key)
after_import("refund_desk.effects", _be_late)
