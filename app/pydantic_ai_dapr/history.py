"""What a run did, step by step, read from its history: pure functions, for a screen or an audit."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from pydantic_ai_dapr.errors import ErrorValue
from pydantic_ai_dapr.types import HistoryEvent, RunError


class Step(BaseModel):
    """One attempt at an operation. Times are the engine's, UTC; waiting for a worker counts as part of it.

    `ended` is None while its answer is missing. `issued` is greater than 1 where `recover` issued it again, and the
    first answer counts. `task_id` is the engine's number of it, in its segment.
    """

    model_config = ConfigDict(frozen=True)

    ordinal: int
    kind: str
    name: str
    attempt: int
    input: JsonValue = None
    output: JsonValue = None
    error: RunError | None = None
    started: datetime
    ended: datetime | None = None
    issued: int = 1
    task_id: int

    @property
    def seconds(self) -> float | None:
        """From its start to its answer, or None while there is none."""
        return (self.ended - self.started).total_seconds() if self.ended else None


def steps(events: Iterable[HistoryEvent]) -> list[Step]:
    """A run's steps in the order of their numbers; what else a workflow does is left out."""
    found: dict[tuple[int, int], Step] = {}
    of_task: dict[int, tuple[int, int]] = {}
    for event in events:
        if event.type == "executionStarted":
            of_task = {}  # the next segment of the run, whose tasks are numbered from the beginning
        if event.task_id is None:
            continue
        if event.type == "taskScheduled":
            step = _scheduled(event, event.task_id)
            if step is not None:
                key = of_task[event.task_id] = (step.ordinal, step.attempt)
                known = found.get(key)
                found[key] = known.model_copy(update={"issued": known.issued + 1}) if known else step
        elif event.type in ("taskCompleted", "taskFailed") and event.task_id in of_task:
            key = of_task[event.task_id]
            if found[key].ended is None:
                found[key] = found[key].model_copy(update=_answer(event))
    return sorted(found.values(), key=lambda step: (step.ordinal, step.attempt))


def _scheduled(event: HistoryEvent, task_id: int) -> Step | None:
    given = cast("dict[str, Any]", event.input) if isinstance(event.input, dict) else {}
    try:
        return Step.model_validate(
            {name: given.get(name) for name in ("ordinal", "kind", "name", "attempt")}
            | {"input": given.get("params"), "started": event.timestamp, "task_id": task_id}
        )
    except ValidationError:
        return None  # an activity of the user's own workflow


def _answer(event: HistoryEvent) -> dict[str, Any]:
    given = cast("dict[str, Any]", event.result) if isinstance(event.result, dict) else {}
    if event.error is not None:
        return {"ended": event.timestamp, "error": event.error}
    if "err" in given:
        failed = ErrorValue.model_validate(given["err"])
        return {"ended": event.timestamp, "error": RunError(type=failed.type, message=failed.message)}
    return {"ended": event.timestamp, "output": given.get("ok")}
