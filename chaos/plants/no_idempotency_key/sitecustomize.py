"""Every attempt at an effect carries a key of its own.

The moment between an effect and its record is made a second long, so that a fault meets it for certain.
"""

import asyncio
import uuid
from types import ModuleType
from typing import Any

from chaos.plants.hook import after_import


def _forget_the_key(module: ModuleType) -> None:
    module.Operation.key = property(lambda self: f"{self.run_id}:{uuid.uuid4().hex}")


def _widen_the_moment(module: ModuleType) -> None:
    apply = module.HttpEffects.apply

    async def slowly(self: Any, kind: str, payload: dict[str, Any]) -> Any:
        answer = await apply(self, kind, payload)
        await asyncio.sleep(1.0)
        return answer

    module.HttpEffects.apply = slowly


after_import("pydantic_ai_dapr.types", _forget_the_key)
after_import("refund_desk.effects", _widen_the_moment)
