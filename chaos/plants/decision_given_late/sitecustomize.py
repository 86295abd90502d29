"""A person's decision is acknowledged, and given to its run later, in the background."""

import threading
from types import ModuleType
from typing import Any

from chaos.plants.hook import after_import

LATER_SECONDS = 10.0


def _patch(module: ModuleType) -> None:
    approve = module.AgentRunClient.approve

    def approve_later(self: Any, *run_and_call: str, **decision: Any) -> None:
        timer = threading.Timer(LATER_SECONDS, approve, (self, *run_and_call), decision)
        timer.daemon = True
        timer.start()

    module.AgentRunClient.approve = approve_later


after_import("pydantic_ai_dapr.client", _patch)
