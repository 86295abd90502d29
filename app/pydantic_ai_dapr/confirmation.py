"""An operation's answer is given only when the turn that asked for it is saved.

Dapr 1.18 starts a turn's activities before it saves the turn. Where that save is lost, because the sidecar dies or
sidecars join or leave in between, the turn is repeated. But an activity's answer that comes before the repetition
belongs to nothing that the saved history knows, and a workflow with a signed history is then declared tampered with
and fails (`DAPR_WORKFLOW_HISTORY_TAMPERED … unknown task scheduled id`). Seen once in 250 runs whose region lost a
worker.

The engine saves a workflow's custom status with its turn, and tells it from memory, under the lock that a turn
holds: so the driver writes there how far it is. To read the history costs more the longer it is.

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

from pydantic_ai_dapr.errors import DroppedWorkError
from pydantic_ai_dapr.types import WorkflowUnavailableError

log = logging.getLogger(__name__)
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.01, 0.5
STALE_PAUSE_SECONDS = 60.0
LATE_SECONDS = 2.0
TELL_AFTER_SECONDS = 10.0


@dataclass(frozen=True, order=True)
class Saved:
    """How far a saved history goes: the run's segment, and how many steps it has issued in that segment."""

    segment: int
    issued: int
    ended: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.segment}:{self.issued}"

    @classmethod
    def parse(cls, text: str, ended: bool) -> Saved:
        """What the workflow's custom status tells; nothing where it isn't the driver's."""
        segment, _, issued = text.partition(":")
        return cls(int(segment), int(issued), ended) if segment.isdigit() and issued.isdigit() else UNKNOWN


UNKNOWN = Saved(-1, -1)
UNAVAILABLE = Saved(-2, -2)


@dataclass(frozen=True)
class Tasks:
    """The numbers of the tasks that a saved history has asked for, and of those that it has an answer to."""

    scheduled: frozenset[int] = frozenset()
    answered: frozenset[int] = frozenset()


class Confirmations:
    """Remembers, for at most `limit` workflows, how far the saved history is known to go.

    `saved(instance_id)` reads that, or None where there is no such workflow, so that no answer can harm it;
    `tasks(instance_id)` reads which tasks the saved history has asked for, and which of them have an answer. Safe to
    use from several threads.
    """

    def __init__(
        self,
        saved: Callable[[str], Saved | None],
        tasks: Callable[[str], Tasks],
        limit: int = 4096,
    ) -> None:
        self._saved, self._tasks, self._limit = saved, tasks, limit
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
        if saved == UNAVAILABLE or segment > saved.segment >= 0:
            return False
        return task_id in self._history(instance_id).answered

    def wait(self, instance_id: str, segment: int, issued: int, task_id: int) -> None:
        """Return once the turn that made the segment's `issued`-th step, a task, is saved.

        Raises DroppedWorkError after `stop`, which alone ends the wait for a step whose segment has ended without it.
        A workflow whose custom status is not the driver's, because it is a copy that has not had a turn yet, is asked
        for its history.
        """
        asked = Saved(segment, issued)
        pause, began, told = FIRST_PAUSE_SECONDS, time.monotonic(), False
        with self._lock:
            known = self._known.get(instance_id, UNKNOWN)
        saved = known if known >= asked else self._read(instance_id)
        while saved is not None and not (saved.segment == segment and saved >= asked):
            if saved == UNKNOWN and task_id in self._history(instance_id).scheduled:
                return
            if saved.segment > segment or saved.ended:
                log.warning("run %s: step %s comes too late, ignored", instance_id, asked)
                pause, told = STALE_PAUSE_SECONDS, True
            if self._stopped.wait(pause):
                raise DroppedWorkError
            pause = max(pause, min(pause * 2, LONGEST_PAUSE_SECONDS))
            if not told and time.monotonic() - began > TELL_AFTER_SECONDS:
                told = True
                log.warning("run %s: step %s has ended, but the turn that asked for it isn't saved", instance_id, asked)
            saved = self._read(instance_id)

    def stop(self) -> None:
        """Let every wait end."""
        self._stopped.set()

    def _history(self, instance_id: str) -> Tasks:
        try:
            return self._tasks(instance_id)
        except WorkflowUnavailableError as error:
            log.info("run %s: its history can't be read: %s", instance_id, error)
            return Tasks()

    def _read(self, instance_id: str) -> Saved | None:
        try:
            saved = self._saved(instance_id)
        except WorkflowUnavailableError as error:
            log.info("run %s: asking again how far it is: %s", instance_id, error)
            return UNAVAILABLE
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
