"""A run is woken again and again after a failover, and heeds each call."""

import uuid
from typing import Any

from chaos.plants.hook import after_import


def _patch(module: Any) -> None:
    module.LOOK_SECONDS, module.SIGNAL_AGAIN_SECONDS = 0.2, 0.4
    # What tells one epoch's calls from another's is new at each call.
    module.Sweeper.epoch = property(lambda self: uuid.uuid4().hex, lambda self, epoch: None)


after_import("region_agent.sweep", _patch)
