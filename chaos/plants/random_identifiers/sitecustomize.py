"""The workflow's code makes another identifier at each replay."""

import uuid
from types import ModuleType

from chaos.plants.hook import after_import


def _patch(module: ModuleType) -> None:
    module.LiveRun.uuid = lambda self: uuid.uuid4()


after_import("pydantic_ai_dapr.run", _patch)
