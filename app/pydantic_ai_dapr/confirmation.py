"""An operation's answer is given only when the turn that asked for it is saved.

Dapr 1.18 starts a turn's activities before it saves the turn. Where that save is lost, because the sidecar dies or
sidecars join or leave in between, the turn is repeated. But an activity's answer that comes before the repetition
belongs to nothing that the saved history knows, and a workflow with a signed history is then declared tampered with
and fails (`DAPR_WORKFLOW_HISTORY_TAMPERED … unknown task scheduled id`). Seen once in 250 runs whose region lost a
worker.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from pydantic_ai_dapr.types import WorkflowUnavailableError

log = logging.getLogger(__name__)
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.01, 0.5
TELL_AFTER_SECONDS = 10.0


class Confirmations:
    """Remembers, for at most `limit` workflows, up to which task the saved history is known to go.

    `saved_up_to(instance_id)` reads the number of the last task that was scheduled, or None where the workflow has
    ended or is gone, so that no answer can harm it. Safe to use from several threads.
    """

    def __init__(self, saved_up_to: Callable[[str], int | None], limit: int = 4096) -> None:
        self._saved_up_to, self._limit = saved_up_to, limit
        self._known: OrderedDict[str, int] = OrderedDict()
        self._lock, self._stopped = threading.Lock(), threading.Event()

    def wait(self, instance_id: str, task_id: int) -> None:
        """Return once the task's turn is saved, however long it takes, or after `stop`."""
        pause, began, told = FIRST_PAUSE_SECONDS, time.monotonic(), False
        while not self._is_saved(instance_id, task_id):
            if self._stopped.wait(pause):
                return
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            if not told and time.monotonic() - began > TELL_AFTER_SECONDS:
                told = True
                log.warning(
                    "run %s: task %d has ended, but the turn that asked for it isn't saved", instance_id, task_id
                )

    def stop(self) -> None:
        """Let every wait end."""
        self._stopped.set()

    def _is_saved(self, instance_id: str, task_id: int) -> bool:
        with self._lock:
            if self._known.get(instance_id, -1) >= task_id:
                return True
        try:
            last = self._saved_up_to(instance_id)
        except WorkflowUnavailableError as error:
            log.info("run %s: reading the history again: %s", instance_id, error)
            return False
        if last is None:
            return True
        with self._lock:
            self._known[instance_id] = max(last, self._known.get(instance_id, -1))
            self._known.move_to_end(instance_id)
            while len(self._known) > self._limit:
                self._known.popitem(last=False)
            return self._known[instance_id] >= task_id
