"""After a failover nobody wakes the open runs."""

from types import ModuleType

from chaos.plants.hook import after_import


def _patch(module: ModuleType) -> None:
    module.Sweeper._signal = lambda self, run: None


after_import("region_agent.sweep", _patch)
