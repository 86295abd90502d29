"""A person's decision is given to its run twice."""

from types import ModuleType
from typing import Any

from chaos.plants.hook import after_import


def _patch(module: ModuleType) -> None:
    approve = module.AgentRunClient.approve

    def approve_twice(self: Any, *run_and_call: str, **decision: Any) -> None:
        approve(self, *run_and_call, **decision)
        approve(self, *run_and_call, **decision)

    module.AgentRunClient.approve = approve_twice


after_import("pydantic_ai_dapr.client", _patch)
