"""The payments service remembers an effect's key long after it has applied the effect."""

import threading
from types import ModuleType
from typing import Any

from chaos.plants.hook import after_import

LATER_SECONDS = 20.0


def _patch(module: ModuleType) -> None:
    judge = module.Ledger._judge

    def judge_and_forget(self: Any, kind: str, caller: Any, digest: str, payload: dict[str, Any]) -> Any:
        recorded = judge(self, kind, caller, digest, payload)
        if recorded.outcome == "applied":
            columns = "key, kind, digest, result"
            row = self._db.execute(f"select {columns} from effects where key = ?", (caller.key,)).fetchone()  # noqa: S608
            self._db.execute("delete from effects where key = ?", (caller.key,))
            threading.Timer(LATER_SECONDS, remember, (self, row)).start()
        return recorded

    def remember(self: Any, row: tuple[str, ...]) -> None:
        with self._lock:
            self._db.execute("insert or ignore into effects (key, kind, digest, result) values (?, ?, ?, ?)", row)

    module.Ledger._judge = judge_and_forget


after_import("refund_desk.payments.ledger", _patch)
