"""Every open run is woken again at each look, and heeds each call."""

import uuid
from types import ModuleType

from chaos.plants.hook import after_import


def _patch(module: ModuleType) -> None:
    module.Sweeper._judge = lambda self, run, status: self._signal(run)
    # What tells one epoch's calls from another's is new at each call.
    module.Sweeper.epoch = property(lambda self: uuid.uuid4().hex, lambda self, epoch: None)


after_import("region_agent.sweep", _patch)
