"""An effect's key names the process that sends it."""

import os
from types import ModuleType

from chaos.plants.hook import after_import


def _patch(module: ModuleType) -> None:
    module.Operation.key = property(lambda self: f"{self.run_id}:{self.ordinal}:{os.getpid()}")


after_import("pydantic_ai_dapr.types", _patch)
