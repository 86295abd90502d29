"""The region that is active no more stops neither its sidecars nor its workers."""

import threading
from typing import Any

from chaos.plants.hook import after_import


def _keep_sidecars(module: Any) -> None:
    async def deactivate(self: Any, epoch: int) -> Any:
        return self.role_file.write("standby", epoch)

    module.RegionProcesses.deactivate = deactivate


def _stay(module: Any) -> None:
    module.watch = lambda *_: threading.Event().wait()


after_import("region_agent.activation", _keep_sidecars)
after_import("service.worker", _stay)
