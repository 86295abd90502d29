"""Drives a coroutine inside a Dapr workflow, which is a generator that runs from its beginning at each work item.

Between two work items the suspended coroutine is kept in memory, in a bounded table. The next work item replays the
history against what memory recorded; where they disagree, history wins and the coroutine is run again from the
beginning. Without the table everything still works, by full replay.

A history that has become long is cut: the answers go to the journal, and the workflow continues as new.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from functools import lru_cache
from typing import Any, Protocol
from weakref import ref

from dapr.ext.workflow import when_any  # pyright: ignore[reportUnknownVariableType]

from pydantic_ai_dapr.confirmation import Saved
from pydantic_ai_dapr.errors import to_value
from pydantic_ai_dapr.journal import Continued, Segment, continued_of, dump_answer, load_answer
from pydantic_ai_dapr.payloads import Reference
from pydantic_ai_dapr.run import Answer, Call, LiveRun, Moment, Recover, Signal, Step, WorkflowContext

log = logging.getLogger(__name__)

SEGMENT_ANSWERS = 40
"""A history with this many answers is cut where nothing is being executed."""


class SegmentJournal(Protocol):
    """Where the answers of earlier segments are; `journal.Journal` is one."""

    def append(self, instance_id: str, segment: Segment, previous: Reference | None) -> Reference: ...
    def segments(self, head: Reference | None) -> list[Segment]: ...
    def offload(self, instance_id: str, value: Any) -> Any: ...
    def resolve(self, value: Any) -> Any: ...


class KeptRuns:
    """At most `limit` suspended runs, the least recently used ones evicted. Safe to use from several threads."""

    def __init__(self, limit: int) -> None:
        self.limit, self._lock = limit, threading.Lock()
        self._runs: OrderedDict[str, LiveRun] = OrderedDict()

    def take(self, instance_id: str) -> LiveRun | None:
        """The kept run, which is the caller's from now on."""
        with self._lock:
            return self._runs.pop(instance_id, None)

    def keep(self, run: LiveRun) -> None:
        """Keep a suspended run; what exceeds the limit is unwound here."""
        with self._lock:
            self._runs[run.instance_id] = run
            excess = [self._runs.popitem(last=False)[1] for _ in range(len(self._runs) - self.limit)]
        for old in excess:
            old.unwind()

    def clear(self) -> None:
        """Unwind every kept run."""
        with self._lock:
            runs = list(self._runs.values())
            self._runs.clear()
        for run in runs:
            run.unwind()

    def __contains__(self, instance_id: str) -> bool:
        return instance_id in self._runs

    def __len__(self) -> int:
        return len(self._runs)


def drive(
    ctx: WorkflowContext,
    make: Callable[[], Coroutine[Any, Any, Any]],
    kept: KeptRuns,
    *,
    start: dict[str, Any] | None = None,
    journal: SegmentJournal | None = None,
    segment_answers: int = SEGMENT_ANSWERS,
    place: Place | None = None,
) -> Generator[Any, Any, Any]:
    """The workflow: run `make()` to its end, each wait of its a wait of the workflow; its result is the workflow's.

    `start` is the workflow's input, whose key `continued` is the driver's own. Without a journal a history is never
    cut, however long it becomes. Where this is one part of a workflow, `place` is the workflow's.
    """
    place = place or Place()
    return (yield from _Drive(make, kept, journal, segment_answers, place, replace(place)).run(ctx, start or {}))


@dataclass
class Place:
    """How far a workflow is whose code drives several runs, one after the other: no number is used twice.

    They have one waiter for `recover`: events come first-in-first-out, and one that nobody needs would swallow them.
    """

    segment: int = 0
    ordinal: int = 0
    uuids: int = 0
    _waiter: Any = None

    def issue(self, step: Step, ctx: WorkflowContext) -> Any:
        """The engine's task for a step."""
        if not isinstance(step, Recover):
            return step.issue(ctx)
        if self._waiter is None:
            self._waiter = step.issue(ctx)
        return self._waiter

    def answered(self, step: Step) -> None:
        """The step's task has ended."""
        if isinstance(step, Recover):
            self._waiter = None


@dataclass(frozen=True)
class _Issued:
    """A step, and the engine's task for it."""

    step: Step
    task: Any


@dataclass(frozen=True)
class _Drive:
    make: Callable[[], Coroutine[Any, Any, Any]]
    kept: KeptRuns
    journal: SegmentJournal | None
    segment_answers: int
    place: Place
    before: Place
    """The place as it was when this began."""

    def run(self, ctx: WorkflowContext, start: dict[str, Any]) -> Generator[Any, Any, Any]:
        begun = _moment(ctx)
        self.place.segment += 1
        continued = continued_of(start)
        # The engine counts how often it is asked, so it is asked once at each work item, in the order of the run.
        patched = lru_cache(None)(_weakly(ctx))
        run = self._kept_or_new(ctx, patched, begun, continued)
        run.ask_patch = patched
        seen = [replace(load_answer(one), moment=begun) for one in continued.carried] if continued else []
        for answer in seen[len(run.delivered) :]:
            if self._ended(run):
                break
            run.deliver(answer)
        tasks: dict[int, _Issued] = {}
        turn: float | None = None
        while True:
            position = len(seen)
            run.moment = _moment(ctx)
            if position >= len(run.stages):
                if self._ended(run):
                    return _result(run)
                if self._is_long(ctx, run, tasks):
                    return (yield from self._continue(ctx, run, tasks, start, continued))
            else:
                for name in run.stages[position].patches:
                    patched(name)
            stage = run.stages[position]
            for number in stage.open:
                if number not in tasks:
                    run.issued = len(tasks) + 1
                    step = run.steps[number]
                    tasks[number] = _Issued(step, self.place.issue(step, ctx))
                    turn = run.now()
            ctx.set_custom_status(str(Saved(run.segment, len(tasks), turn)))
            self.kept.keep(run)
            number = yield from _first_of(tasks, stage.open)
            mine = self.kept.take(ctx.instance_id) is run
            seen.append(_answer(number, tasks[number], _moment(ctx)))
            self.place.answered(tasks[number].step)
            if mine and position == len(run.delivered):
                run.deliver(seen[-1])
            elif not mine or not _same(run.delivered[position], seen[-1]):
                if mine:
                    log.warning("run %s: memory disagrees with history, which wins", ctx.instance_id)
                    run.unwind()
                run = self._again(ctx, patched, begun, continued, seen)

    def _kept_or_new(
        self,
        ctx: WorkflowContext,
        patched: Callable[[str], bool],
        begun: Moment,
        continued: Continued | None,
    ) -> LiveRun:
        run = self.kept.take(ctx.instance_id)
        segment = continued.segment if continued else self.before.segment
        if run is not None and continued and run.segment == segment - 1 and run.head == continued.head:
            run.begin_segment(begun)
        if run is not None and run.segment == segment and run.begun.at == begun.at:
            return run
        if run is not None:
            log.info("run %s: memory is of another execution, history wins", ctx.instance_id)
            run.unwind()
        return self._again(ctx, patched, begun, continued, [])

    def _again(
        self,
        ctx: WorkflowContext,
        patched: Callable[[str], bool],
        begun: Moment,
        continued: Continued | None,
        seen: list[Answer],
    ) -> LiveRun:
        """Bring a fresh run to where the history is; every answer arrives at its own time again."""
        earlier = self.journal.segments(continued.head) if self.journal and continued else []
        run = LiveRun(
            ctx.instance_id,
            self.make,
            earlier[0].begun if earlier else begun,
            self.journal,
            segment=self.before.segment,
            ordinal=self.before.ordinal,
            uuids=self.before.uuids,
        )
        run.ask_patch = patched
        for number, segment in enumerate(earlier):
            run.patches |= segment.patches
            _replay(run, segment.answers)
            run.advance()
            run.begin_segment(earlier[number + 1].begun if number + 1 < len(earlier) else begun)
        # What came before the last answer was met in this work item already, and is not reported again.
        _replay(run, [*(replace(one, moment=replace(one.moment, replaying=True)) for one in seen[:-1]), *seen[-1:]])
        return run

    def _ended(self, run: LiveRun) -> bool:
        """Advance the run; what goes wrong in doing so ends it, and must not leave a suspended coroutine."""
        try:
            return run.advance()
        except Exception:
            run.unwind()
            raise
        finally:
            self.place.ordinal, self.place.uuids = run.ordinal, run.uuids

    def _is_long(self, ctx: WorkflowContext, run: LiveRun, tasks: dict[int, _Issued]) -> bool:
        """Whether the history is to be cut here: it is long, and every call that is open has yet to be issued."""
        return (
            self.journal is not None
            and not ctx.is_replaying
            and len(run.delivered) >= self.segment_answers
            and all(not isinstance(run.steps[number], Call) or number not in tasks for number in run.stages[-1].open)
        )

    def _continue(
        self,
        ctx: WorkflowContext,
        run: LiveRun,
        tasks: dict[int, _Issued],
        start: dict[str, Any],
        continued: Continued | None,
    ) -> Generator[Any, Any, None]:
        """End this execution; what the engine still has for it goes to the next one."""
        assert self.journal is not None
        segment = Segment(run.begun, run.delivered, run.patches)
        try:
            head = self.journal.append(ctx.instance_id, segment, continued.head if continued else None)
        except BaseException:
            run.unwind()
            raise
        next_start = start | {"continued": Continued(segment=run.segment + 1, head=head).model_dump()}
        run.head = head
        self.kept.keep(run)
        ctx.continue_as_new(next_start, save_events=True)
        # An event that comes in this same turn finds its waiter still here, and would be lost: the input is encoded
        # when the turn ends, so what arrives until then can be added to it.
        waiting = [number for number in run.stages[-1].open if number in tasks]
        while waiting:
            number = yield from _first_of(tasks, waiting)
            waiting.remove(number)
            if isinstance(tasks[number].step, Signal | Recover):
                next_start["continued"]["carried"].append(dump_answer(_answer(number, tasks[number], run.moment)))


def _replay(run: LiveRun, answers: list[Answer]) -> None:
    for answer in answers:
        run.advance()
        run.deliver(answer)


def _result(run: LiveRun) -> Any:
    assert run.root is not None
    try:
        return run.root.result()
    finally:
        run.unwind()


def _first_of(tasks: dict[int, _Issued], numbers: Sequence[int]) -> Generator[Any, Any, int]:
    """Wait for the first of these; none refers to what waited for it any more."""
    waiting = [tasks[number].task for number in numbers]
    first = yield when_any(waiting)
    for task in waiting:
        task._parent = None
    return next(number for number, task in zip(numbers, waiting, strict=True) if task is first)


def _weakly(ctx: WorkflowContext) -> Callable[[str], bool]:
    """Asks the context without keeping it: a run that is kept in memory would keep its last work item."""
    alive = ref(ctx)

    def is_patched(name: str) -> bool:
        context = alive()
        assert context is not None
        return context.is_patched(name)

    return is_patched


def _same(mine: Answer, theirs: Answer) -> bool:
    return (mine.number, mine.value, mine.error) == (theirs.number, theirs.value, theirs.error)


def _moment(ctx: WorkflowContext) -> Moment:
    return Moment(ctx.current_utc_datetime.replace(tzinfo=UTC), ctx.is_replaying)


def _answer(number: int, issued: _Issued, moment: Moment) -> Answer:
    step = issued.step
    attempt = step.attempt if isinstance(step, Call) else None
    event = step.name if isinstance(step, Signal) else None
    try:
        return Answer(number, issued.task.get_result(), None, moment, attempt, event)
    except Exception as error:
        return Answer(number, None, to_value(error), moment, attempt)
