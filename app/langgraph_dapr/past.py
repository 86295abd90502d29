"""What a run has done, out of its history: its checkpoints, and what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC
from typing import Any, cast

from pydantic_ai_dapr import HistoryEvent
from pydantic_ai_dapr.journal import continued_of, load_answer
from pydantic_ai_dapr.run import Answer, Call, LiveRun, Moment, PayloadAccess, Signal

from langgraph_dapr.codec import Codec
from langgraph_dapr.nodes import resume_event
from langgraph_dapr.types import PendingInterrupt


@dataclass(frozen=True)
class Answered:
    """An operation's last attempt has ended, or an event was raised: `answer` is what the run got.

    `key` is the operation's ordinal, or the event's name; `activity` is where the operation was executed.
    """

    key: int | str
    answer: Any
    event: HistoryEvent
    activity: str | None = None


def replay(
    instance_id: str,
    make: Callable[[], Coroutine[Any, Any, Any]],
    history: list[HistoryEvent],
    payloads: PayloadAccess,
) -> None:
    """Run `make()` with the answers that are in the history, as far as they go. Nothing is executed.

    Raises ValueError where the graph asks for something else than the history has.
    """
    if not history:
        return
    run = LiveRun(instance_id, make, _moment(history[0]), payloads)
    try:
        for answered in answers(history):
            if run.advance():
                return
            number = _waiting(run, answered)
            if number is None:
                raise ValueError(
                    f"run {instance_id} was started with another version of the graph: this one does not ask for "
                    f"{answered.activity or answered.key}, of which the run's history has the answer"
                )
            run.deliver(Answer(number, answered.answer, None, _moment(answered.event)))
        run.advance()
    finally:
        if run.root is not None and run.root.done() and not run.root.cancelled():
            run.root.exception()
        run.unwind()


def answers(history: list[HistoryEvent]) -> list[Answered]:
    """The answers on which the run went on, in their order: neither of attempts that were followed by a retry, nor
    second ones."""
    found: list[Answered] = []
    seen: set[tuple[int, int]] = set()
    scheduled = _scheduled(history)
    attempts = {(operation["ordinal"], operation["attempt"]) for _, operation in scheduled.values()}
    for execution, event in _executions(history):
        found += [one for one in _raised(event) if one.key not in {before.key for before in found}]
        if event.type != "taskCompleted" or (execution, event.task_id) not in scheduled:
            continue
        activity, operation = scheduled[execution, event.task_id]
        attempt = (operation["ordinal"], operation["attempt"])
        answer: Any = event.result
        retried = "err" in answer and (attempt[0], attempt[1] + 1) in attempts
        if attempt not in seen and not retried:
            found.append(Answered(attempt[0], answer, event, activity))
        seen.add(attempt)
    return found


def pending(history: list[HistoryEvent], codec: Codec) -> list[PendingInterrupt]:
    """The interrupts that nobody has answered yet, in the order in which they were asked."""
    names = {operation["ordinal"]: operation["name"] for _, operation in _scheduled(history).values()}
    asked: dict[str, PendingInterrupt] = {}
    for answered in answers(history):
        if isinstance(answered.key, str):
            asked.pop(answered.key, None)
            continue
        for one in cast("dict[str, Any]", answered.answer.get("ok") or {}).get("interrupts", []):
            asked[resume_event(one["id"])] = PendingInterrupt(
                one["id"], names[answered.key], codec.load(one["value"]), answered.event.timestamp
            )
    return list(asked.values())


def is_idle(history: list[HistoryEvent]) -> bool:
    """Whether everything that was asked for has been answered."""
    done = {(execution, event.task_id) for execution, event in _executions(history) if event.type == "taskCompleted"}
    return _scheduled(history).keys() <= done


def _raised(event: HistoryEvent) -> list[Answered]:
    """The answers to interrupts that came with this event; of a run that continues, what arrived while it was cut."""
    values = [(event.name, event.input)] if event.type == "eventRaised" else []
    if event.type == "executionStarted" and (continued := continued_of(event.input)) is not None:
        values = [(answer.event, answer.value) for answer in map(load_answer, continued.carried)]
    return [Answered(name, value, event) for name, value in values if name and name.startswith(resume_event(""))]


def _scheduled(history: list[HistoryEvent]) -> dict[tuple[int, int | None], tuple[str, dict[str, Any]]]:
    """Each operation that was asked for: its activity and its envelope, by its execution and task."""
    return {
        (execution, event.task_id): (event.name or "", event.input)
        for execution, event in _executions(history)
        if event.type == "taskScheduled" and isinstance(event.input, dict)
    }


def _executions(history: list[HistoryEvent]) -> list[tuple[int, HistoryEvent]]:
    """Each event with the number of its execution, in which alone task ids are unique."""
    execution, found = 0, list[tuple[int, HistoryEvent]]()
    for event in history:
        execution += event.type == "executionStarted"
        found.append((execution, event))
    return found


def _waiting(run: LiveRun, answered: Answered) -> int | None:
    for number, step in run.steps.items():
        if step.settled:
            continue
        if isinstance(step, Call) and step.attempt is not None:
            if (step.attempt[0], step.name) == (answered.key, answered.activity):
                return number
        elif isinstance(step, Signal) and step.name == answered.key:
            return number
    return None


def _moment(event: HistoryEvent) -> Moment:
    return Moment(event.timestamp.astimezone(UTC), replaying=True)
