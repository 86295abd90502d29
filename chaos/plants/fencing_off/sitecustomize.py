"""The payments service takes effects of any epoch, and the old region goes on.

Where keys are right, what an old region does late is a duplicate, and the fence is a second one behind them. So here
an effect's key names its process, and what region a sends is late.
"""

import asyncio
import dataclasses
from types import ModuleType
from typing import Any

from chaos.plants.hook import after_import
from chaos.plants.patches import keep_sidecars, keep_workers, name_the_process_in_keys

LATE_SECONDS = 5.0


def _take_all(module: Any) -> None:
    judge = module.Ledger._judge

    def judge_without_epoch(self: Any, kind: str, caller: Any, digest: str, payload: dict[str, Any]) -> Any:
        return judge(self, kind, dataclasses.replace(caller, epoch=self._epoch), digest, payload)

    module.Ledger._judge = judge_without_epoch


def _be_late(module: ModuleType) -> None:
    apply = module.HttpEffects.apply

    async def apply_late(self: Any, kind: str, payload: dict[str, Any]) -> Any:
        if self.config.region == "a":
            await asyncio.sleep(LATE_SECONDS)
        return await apply(self, kind, payload)

    module.HttpEffects.apply = apply_late


after_import("refund_desk.payments.ledger", _take_all)
after_import("region_agent.activation", keep_sidecars)
after_import("service.role", keep_workers)
after_import("pydantic_ai_dapr.types", name_the_process_in_keys)
after_import("refund_desk.effects", _be_late)
