"""A start is acknowledged before its row is committed, and scheduled with it."""

import threading
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

from chaos.plants.hook import after_import

LATER_SECONDS = 1.5


def _patch(module: ModuleType) -> None:
    accept = module.RunIndex.accept

    def accept_later(self: Any, run_id: str, run_input: Any, *, agent: str = "", **rerun: Any) -> Any:
        threading.Timer(LATER_SECONDS, accept, (self, run_id, run_input), {"agent": agent, **rerun}).start()
        now = datetime.now(UTC)
        run = module.IndexedRun(run_id, run_input, now, None, None, "accepted", None, agent)
        return module.Acceptance("created", run)

    module.RunIndex.accept = accept_later


after_import("run_index.index", _patch)
