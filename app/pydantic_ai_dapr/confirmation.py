"""An operation's answer is given only when the turn that asked for it is saved.

Dapr 1.18 starts a turn's activities before it saves the turn. Where that save is lost, because the sidecar dies or
sidecars join or leave in between, the turn is repeated. But an activity's answer that comes before the repetition
belongs to nothing that the saved history knows, and a workflow with a signed history is then declared tampered with
and fails (`DAPR_WORKFLOW_HISTORY_TAMPERED … unknown task scheduled id`). Seen once in 250 runs whose region lost a
worker.

A long run goes on in segments, each with a history of its own whose tasks are numbered from the beginning. An answer
that comes after its segment has ended would be taken for another task's, so it is never given.

For the same reason an activity that is delivered late, perhaps a second time, is looked up before it is executed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic_ai_dapr.types import WorkflowUnavailableError

log = logging.getLogger(__name__)
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.01, 0.5
STALE_PAUSE_SECONDS = 60.0
LATE_SECONDS = 2.0
TELL_AFTER_SECONDS = 10.0


@dataclass(frozen=True, order=True)
class Saved:
    """How far a saved history goes: the run's segment, and the number of the last task that it asked for."""

    segment: int
    last_task: int
    answered: frozenset[int] = field(default=frozenset(), compare=False)
    ended: bool = field(default=False, compare=False)


UNKNOWN = Saved(-1, -1)


class Confirmations:
    """Remembers, for at most `limit` workflows, how far the saved history is known to go.

    `saved(instance_id)` reads that, or None where there is no such workflow, so that no answer can harm it. Safe to
    use from several threads.
    """

    def __init__(self, saved: Callable[[str], Saved | None], limit: int = 4096) -> None:
        self._saved, self._limit = saved, limit
        self._known: OrderedDict[str, Saved] = OrderedDict()
        self._lock, self._stopped = threading.Lock(), threading.Event()

    def is_answered(self, instance_id: str, segment: int, task_id: int, issued: float) -> bool:
        """Whether the task needs no execution any more: it has an answer, or its segment or run has ended.

        `issued` is in Unix seconds; what was issued just now is not looked up. Where the history can't be read, the
        answer is no.
        """
        if time.time() - issued < LATE_SECONDS:
            return False
        saved = self._read(instance_id)
        if saved is None or saved.ended or saved.segment > segment:
            return True
        return saved.segment == segment and task_id in saved.answered

    def wait(self, instance_id: str, segment: int, task_id: int) -> None:
        """Return once the task's turn is saved, however long it takes, or after `stop`.

        For a task whose segment has ended without it, only `stop` ends the wait.
        """
        asked = Saved(segment, task_id)
        pause, began, told = FIRST_PAUSE_SECONDS, time.monotonic(), False
        with self._lock:
            known = self._known.get(instance_id, UNKNOWN)
        saved = known if known >= asked else self._read(instance_id)
        while saved is not None and not (saved.segment == segment and saved >= asked):
            if saved.segment > segment or saved.ended:
                log.warning("run %s: task %d of segment %d comes too late, ignored", instance_id, task_id, segment)
                pause, told = STALE_PAUSE_SECONDS, True
            if self._stopped.wait(pause):
                return
            pause = max(pause, min(pause * 2, LONGEST_PAUSE_SECONDS))
            if not told and time.monotonic() - began > TELL_AFTER_SECONDS:
                told = True
                log.warning(
                    "run %s: task %d has ended, but the turn that asked for it isn't saved", instance_id, task_id
                )
            saved = self._read(instance_id)

    def stop(self) -> None:
        """Let every wait end."""
        self._stopped.set()

    def _read(self, instance_id: str) -> Saved | None:
        try:
            saved = self._saved(instance_id)
        except WorkflowUnavailableError as error:
            log.info("run %s: reading the history again: %s", instance_id, error)
            return UNKNOWN
        if saved is None:
            return None
        with self._lock:
            known = self._known.get(instance_id)
            if known is None or known <= saved:
                self._known[instance_id] = known = saved
            self._known.move_to_end(instance_id)
            while len(self._known) > self._limit:
                self._known.popitem(last=False)
        return known
