"""What a run did, step by step, read from its history: pure functions, for a screen or an audit."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, computed_field

from pydantic_ai_dapr.errors import ErrorValue
from pydantic_ai_dapr.types import HistoryEvent, RunError

_ISSUED = ("taskScheduled", "childWorkflowInstanceCreated")
_ANSWERED = ("taskCompleted", "taskFailed", "childWorkflowInstanceCompleted", "childWorkflowInstanceFailed")


class Step(BaseModel):
    """One attempt at an operation. Times are the engine's, UTC; waiting for a worker counts as part of it.

    `ended` is None while its answer is missing. `issued` is greater than 1 where `recover` issued it again, and the
    first answer counts. One that went to sleep for `asleep` seconds is followed by another. `task_id` is the engine's
    number of it, in its segment. Of kind `child` is what another agent was asked: the workflow `instance_id` has its
    history.
    """

    model_config = ConfigDict(frozen=True)

    ordinal: int
    kind: str
    name: str
    attempt: int
    input: JsonValue = None
    output: JsonValue = None
    error: RunError | None = None
    asleep: float | None = None
    started: datetime
    ended: datetime | None = None
    issued: int = 1
    task_id: int
    instance_id: str | None = None

    @computed_field
    @property
    def seconds(self) -> float | None:
        """From its start to its answer, or None while there is none."""
        return (self.ended - self.started).total_seconds() if self.ended else None


def steps(events: Iterable[HistoryEvent]) -> list[Step]:
    """A run's steps in the order of their numbers; what else a workflow does is left out."""
    found: dict[tuple[int, int], Step] = {}
    of_task: dict[int, tuple[int, int]] = {}
    run_id = ""
    for event in events:
        if event.type == "executionStarted":
            of_task = {}  # the next segment of the run, whose tasks are numbered from the beginning
            run_id = _run_of(event)
        if event.task_id is None:
            continue
        if event.type in _ISSUED:
            step = _scheduled(event, event.task_id) if event.type == "taskScheduled" else _child(event, run_id)
            if step is not None:
                key = of_task[event.task_id] = (step.ordinal, step.attempt)
                known = found.get(key)
                found[key] = known.model_copy(update={"issued": known.issued + 1}) if known else step
        elif event.type in _ANSWERED and event.task_id in of_task:
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


def _child(event: HistoryEvent, run_id: str) -> Step | None:
    ordinal = _run_of(event).removeprefix(f"{run_id}.")
    if not run_id or not ordinal.isdigit():
        return None  # a child of the user's own workflow
    return Step(
        ordinal=int(ordinal),
        kind="child",
        name=event.name or "",
        attempt=1,
        input=event.input,
        started=event.timestamp,
        task_id=event.task_id or 0,
        instance_id=event.instance_id,
    )


def _run_of(event: HistoryEvent) -> str:
    """The logical run id that a workflow is started with."""
    return str(event.input.get("run_id", "")) if isinstance(event.input, dict) else ""


def _answer(event: HistoryEvent) -> dict[str, Any]:
    given = cast("dict[str, Any]", event.result) if isinstance(event.result, dict) else {}
    if event.error is not None:
        return {"ended": event.timestamp, "error": event.error}
    if event.type == "childWorkflowInstanceCompleted":
        return {"ended": event.timestamp, "output": event.result}
    if "err" in given:
        failed = ErrorValue.model_validate(given["err"])
        return {"ended": event.timestamp, "error": RunError(type=failed.type, message=failed.message)}
    return {"ended": event.timestamp, "output": given.get("ok"), "asleep": given.get("sleep")}
