"""Drives a coroutine inside a Dapr workflow, which is a generator that runs from its beginning at each work item.

Between two work items the suspended coroutine is kept in memory, in a bounded table. The next work item replays the
history against what memory recorded; where they disagree, history wins and the coroutine is run again from the
beginning. Without the table everything still works, by full replay.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from dapr.ext.workflow import when_any  # pyright: ignore[reportUnknownVariableType]

from pydantic_ai_dapr.run import LiveRun, Moment, WorkflowContext

log = logging.getLogger(__name__)


class KeptRuns:
    """At most `limit` suspended runs, the least recently used ones evicted. Safe to use from several threads."""

    def __init__(self, limit: int) -> None:
        self._limit, self._lock = limit, threading.Lock()
        self._runs: OrderedDict[str, LiveRun] = OrderedDict()

    def take(self, instance_id: str) -> LiveRun | None:
        """The kept run, which is the caller's from now on."""
        with self._lock:
            return self._runs.pop(instance_id, None)

    def keep(self, run: LiveRun) -> None:
        """Keep a suspended run; what exceeds the limit is unwound here."""
        with self._lock:
            self._runs[run.instance_id] = run
            excess = [self._runs.popitem(last=False)[1] for _ in range(len(self._runs) - self._limit)]
        for old in excess:
            old.loop.evict()

    def clear(self) -> None:
        """Unwind every kept run."""
        with self._lock:
            runs = list(self._runs.values())
            self._runs.clear()
        for run in runs:
            run.loop.evict()

    def __len__(self) -> int:
        return len(self._runs)


@dataclass(frozen=True)
class _Answer:
    """What a step was answered, and when."""

    number: int
    value: object
    error: Exception | None
    moment: Moment


def drive(
    ctx: WorkflowContext, make: Callable[[], Coroutine[Any, Any, Any]], kept: KeptRuns
) -> Generator[Any, Any, Any]:
    """The workflow: run `make()` to its end, each wait of its a wait of the workflow; its result is the workflow's."""
    begun = _moment(ctx)
    run = kept.take(ctx.instance_id) or LiveRun(ctx.instance_id, make, begun)
    tasks: list[Any] = []
    seen: list[_Answer] = []
    while True:
        position = len(seen)
        run.moment = _moment(ctx)
        if position == len(run.stages) and _ended(run):
            assert run.root is not None
            return run.root.result()
        stage = run.stages[position]
        tasks.extend(step.issue(ctx) for step in run.steps[len(tasks) : stage.steps])
        kept.keep(run)
        first = yield when_any([tasks[number] for number in stage.open])
        mine = kept.take(ctx.instance_id) is run
        number = next(number for number in stage.open if tasks[number] is first)
        seen.append(_answer(number, first, _moment(ctx)))
        if mine and position == len(run.delivered):
            run.moment = seen[-1].moment
            run.deliver(number, seen[-1].value, seen[-1].error)
        elif not mine or run.delivered[position] != (number, seen[-1].value):
            if mine:
                log.warning("run %s: memory disagrees with history, which wins", ctx.instance_id)
                run.loop.evict()
            run = _again(LiveRun(ctx.instance_id, make, begun), seen)


def _ended(run: LiveRun) -> bool:
    """Advance the run; what goes wrong in doing so ends the workflow, and must not leave a suspended coroutine."""
    try:
        return run.advance()
    except Exception:
        run.loop.evict()
        raise


def _again(run: LiveRun, seen: list[_Answer]) -> LiveRun:
    """Bring a fresh run to where the history is; every answer arrives at its own time again."""
    for answer in seen:
        run.advance()
        run.moment = answer.moment
        run.deliver(answer.number, answer.value, answer.error)
    return run


def _moment(ctx: WorkflowContext) -> Moment:
    return Moment(ctx.current_utc_datetime.replace(tzinfo=UTC), ctx.is_replaying)


def _answer(number: int, task: Any, moment: Moment) -> _Answer:
    try:
        return _Answer(number, task.get_result(), None, moment)
    except Exception as error:
        return _Answer(number, None, error, moment)
