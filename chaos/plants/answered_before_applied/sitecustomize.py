"""A tool answers before its effect is applied, which follows in the background."""

import asyncio
from types import ModuleType
from typing import Any

from chaos.plants.hook import after_import

LATER_SECONDS = 3.0


def _patch(module: ModuleType) -> None:
    apply, decide = module.HttpEffects.apply, module.decide
    sending: set[asyncio.Task[Any]] = set()

    async def send(self: Any, kind: str, payload: dict[str, Any]) -> None:
        await asyncio.sleep(LATER_SECONDS)
        await apply(self, kind, payload)

    async def answer_at_once(self: Any, kind: str, payload: dict[str, Any]) -> Any:
        task = asyncio.create_task(send(self, kind, payload))
        sending.add(task)
        task.add_done_callback(sending.discard)
        return decide(kind, payload)

    module.HttpEffects.apply = answer_at_once


after_import("refund_desk.effects", _patch)
