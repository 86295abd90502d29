"""An operation's answer is given only when the turn that asked for it is saved.

Dapr 1.18 starts a turn's activities before it saves the turn. Where that save is lost, because the sidecar dies or
sidecars join or leave in between, the turn is repeated. But an activity's answer that comes before the repetition
belongs to nothing that the saved history knows, and a workflow with a signed history is then declared tampered with
and fails (`DAPR_WORKFLOW_HISTORY_TAMPERED … unknown task scheduled id`). Seen once in 250 runs whose region lost a
worker. The repetition asks for the same operation in other words, at another time: the answer to the turn that was
lost fails the run as well (`… ioDigest mismatch`), and is not given. Seen once in 100 runs whose sidecars joined.

The engine saves a workflow's custom status with its turn, and tells it from memory, under the lock that a turn
holds: so the driver writes there how far it is, and since when. To read the history costs more the longer it is.

A long run goes on in segments, each with a history of its own whose tasks are numbered from the beginning. An answer
that comes after its segment has ended would be taken for another task's, so it is never given.

For the same reason an activity that is delivered late, perhaps a second time, is looked up before it is executed.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai_dapr.errors import DroppedWorkError
from pydantic_ai_dapr.types import WorkflowUnavailableError

log = logging.getLogger(__name__)
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.01, 0.5
LATE_SECONDS = 2.0
TELL_AFTER_SECONDS = 10.0
REMEMBERED_TURNS = 8


@dataclass(frozen=True, order=True)
class Saved:
    """How far a saved history goes: the run's segment, and how many steps it has issued in that segment.

    `turn` is the time, in Unix seconds, of the turn that issued the last of them; None where the driver was an older
    one, which did not say.
    """

    segment: int
    issued: int
    turn: float | None = field(default=None, compare=False)
    ended: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.segment}:{self.issued}" + ("" if self.turn is None else f":{self.turn!r}")

    @classmethod
    def parse(cls, text: str, ended: bool) -> Saved:
        """What the workflow's custom status tells; nothing where it isn't the driver's."""
        told = _TOLD.fullmatch(text)
        if told is None:
            return UNKNOWN
        segment, issued, turn = told.groups()
        return cls(int(segment), int(issued), float(turn) if turn else None, ended)


_TOLD = re.compile(r"(\d+):(\d+)(?::(\d+\.\d+))?", re.ASCII)
UNKNOWN = Saved(-1, -1)
UNAVAILABLE = Saved(-2, -2)


@dataclass(frozen=True)
class Tasks:
    """The tasks that a saved history has asked for, by number, and the numbers of those that it has an answer to.

    The engine gives each task an identifier, another one at each repetition of the turn that asks for it.
    """

    scheduled: Mapping[int, str] = field(default_factory=dict[int, str])
    answered: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Task:
    """What the engine calls a delivery: its workflow, its number there, and its identifier."""

    instance_id: str
    number: int
    execution_id: str

    @classmethod
    def of(cls, ctx: Any) -> Task:
        """The task of an activity's context."""
        return cls(ctx.workflow_id, ctx.task_id, ctx.get_inner_context().task_execution_id)


@dataclass(frozen=True)
class Asked:
    """A task, and what its input says: the segment and number of its step, and when the turn was that asked for it,
    in Unix seconds. Without a segment only the history tells of it."""

    task: Task
    segment: int | None = None
    issued: int = 0
    turn: float = 0.0

    def __str__(self) -> str:
        step = f"task {self.task.number}" if self.segment is None else f"step {self.segment}:{self.issued}"
        return f"run {self.task.instance_id}: {step}"


class Confirmations:
    """Remembers, for at most `limit` workflows, how far the saved history is known to go.

    `saved(instance_id)` reads that, or None where there is no such workflow, so that no answer can harm it;
    `tasks(instance_id)` reads the saved history. Safe to use from several threads.
    """

    def __init__(
        self,
        saved: Callable[[str], Saved | None],
        tasks: Callable[[str], Tasks],
        limit: int = 4096,
    ) -> None:
        self._saved, self._tasks, self._limit = saved, tasks, limit
        self._known: OrderedDict[str, Saved] = OrderedDict()
        self._turns: dict[str, deque[float]] = {}
        self._lock, self._stopped = threading.Lock(), threading.Event()

    def is_answered(self, asked: Asked) -> bool:
        """Whether the task needs no execution any more: it has an answer, or its segment or run has ended.

        What was issued just now is not looked up. Where the history can't be read, the answer is no.
        """
        if time.time() - asked.turn < LATE_SECONDS:
            return False
        saved = self._read(asked.task.instance_id)
        segment = asked.segment or 0
        if saved is None or saved.ended or saved.segment > segment:
            return True
        if saved == UNAVAILABLE or segment > saved.segment >= 0:
            return False
        tasks = self._history(asked.task.instance_id)
        return tasks is not None and asked.task.number in tasks.answered

    def wait(self, asked: Asked) -> None:
        """Return once the turn that asked for the step, a task, is saved.

        Raises DroppedWorkError where that turn was lost, and repeated; where its segment has ended without it; and
        after `stop`. A workflow whose custom status does not tell, because it is a copy that has not had a turn yet
        or because another turn has been saved since, is asked for its history.
        """
        pause, began, told = FIRST_PAUSE_SECONDS, time.monotonic(), False
        with self._lock:
            saved = self._known.get(asked.task.instance_id, UNKNOWN)
        if saved == UNKNOWN or saved < Saved(asked.segment or 0, asked.issued):
            saved = self._read(asked.task.instance_id)
        while saved is not None and not self._is_confirmed(asked, saved):
            if saved.ended or (asked.segment is not None and saved.segment > asked.segment):
                log.warning("%s comes too late, ignored", asked)
                raise DroppedWorkError
            if self._stopped.wait(pause):
                raise DroppedWorkError
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            if not told and time.monotonic() - began > TELL_AFTER_SECONDS:
                told = True
                log.warning("%s has ended, but the turn that asked for it isn't saved", asked)
            saved = self._read(asked.task.instance_id)

    def stop(self) -> None:
        """Let every wait end."""
        self._stopped.set()

    def _is_confirmed(self, asked: Asked, saved: Saved) -> bool:
        """Whether the turn that asked is known to be saved. Raises DroppedWorkError where another one is."""
        if saved == UNAVAILABLE:
            return False
        if saved != UNKNOWN and (asked.segment not in (None, saved.segment) or saved.issued < asked.issued):
            return False
        with self._lock:
            if asked.turn in self._turns.get(asked.task.instance_id, ()):
                return True
        tasks = self._history(asked.task.instance_id)
        if tasks is None or asked.task.number not in tasks.scheduled:
            return False
        if tasks.scheduled[asked.task.number] != asked.task.execution_id:
            log.warning("%s was asked for by a turn that was lost, ignored", asked)
            raise DroppedWorkError
        return True

    def _history(self, instance_id: str) -> Tasks | None:
        try:
            return self._tasks(instance_id)
        except WorkflowUnavailableError as error:
            log.info("run %s: its history can't be read: %s", instance_id, error)
            return None

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
            if saved.turn is not None:
                self._turns.setdefault(instance_id, deque(maxlen=REMEMBERED_TURNS)).append(saved.turn)
            self._known.move_to_end(instance_id)
            while len(self._known) > self._limit:
                self._turns.pop(self._known.popitem(last=False)[0], None)
        return known
