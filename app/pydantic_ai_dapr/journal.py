"""What the earlier segments of a long run asked for and were answered, kept in the state store as a chain.

A run whose history has become long goes on in a new execution with an empty history (`continue_as_new`). Before
that its answers are written to the state store, in a segment that names the one before it, so that a worker that
doesn't have the run in memory can bring a fresh coroutine to the same place; and its history beside them, for those
who look at the run later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field

from pydantic_ai_dapr.errors import ErrorValue
from pydantic_ai_dapr.payloads import Payloads, Reference, reference_of
from pydantic_ai_dapr.run import Answer, Moment
from pydantic_ai_dapr.types import HistoryEvent, RunError

T = TypeVar("T")
PAYLOAD = "payload"
"""Stands in a workflow's input for the run's, where that is kept beside it."""
Patiently = Callable[[Callable[[], Any]], Any]


class Continued(BaseModel):
    """Where a run goes on: its segment's number, the journal's last entry, and what arrived while it was cut."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    segment: int
    head: Reference
    carried: list[Any] = Field(default_factory=list[Any])


@dataclass(frozen=True)
class Segment:
    """One execution of a run's workflow: when it began, its answers in their order, which patches apply to the run."""

    begun: Moment
    answers: list[Answer]
    patches: dict[str, bool] = field(default_factory=dict[str, bool])


def at_once(action: Callable[[], T]) -> T:
    """For those who would rather have the error than wait."""
    return action()


class Journal:
    """Writes and reads segments; `history_of(instance_id)` reads the history that is about to be cut.

    `patiently` repeats what the sidecar can't do at this moment.
    """

    def __init__(
        self,
        payloads: Payloads,
        history_of: Callable[[str], list[HistoryEvent]],
        patiently: Patiently = at_once,
    ) -> None:
        self._payloads, self._history_of, self._patiently = payloads, history_of, patiently

    def append(self, instance_id: str, segment: Segment, previous: Reference | None) -> Reference:
        """Write a segment, and return the chain's new end."""

        def write() -> Reference:
            events = [event.model_dump(mode="json", exclude_none=True) for event in self._history_of(instance_id)]
            value = {
                "previous": previous.model_dump() if previous else None,
                "begun": segment.begun.at.isoformat(),
                "answers": [dump_answer(answer) for answer in segment.answers],
                "patches": segment.patches,
                "history": self._payloads.put(instance_id, events).model_dump(),
            }
            return self._payloads.put(instance_id, value)

        return self._patiently(write)

    def segments(self, head: Reference | None) -> list[Segment]:
        """Every segment up to `head`, from the first one. Raises PayloadLostError."""
        return [
            Segment(_moment(value["begun"]), [load_answer(one) for one in value["answers"]], value["patches"])
            for _, value in self._chain(head)
        ]

    def history(self, head: Reference | None) -> list[HistoryEvent]:
        """The events of every segment up to `head`, from the first one. Raises PayloadLostError."""
        events: list[HistoryEvent] = []
        for _, value in self._chain(head):
            reference = Reference.model_validate(value["history"])
            own = [
                HistoryEvent.model_validate(one) for one in self._patiently(lambda r=reference: self._payloads.get(r))
            ]
            events += _completed(own, [load_answer(one) for one in value["answers"]])
        return [event.model_copy(update={"sequence": number}) for number, event in enumerate(events)]

    def delete(self, instance_id: str, events: list[HistoryEvent]) -> None:
        """Remove what the run wrote beside its history, of which `events` is the current segment.

        What it refers to of another run stays: one that was run again goes on from the old run's.
        """
        started = next((event for event in events if event.type == "executionStarted"), None)
        continued = continued_of(started.input) if started else None
        written = _referred_by([(event.input, event.result) for event in events])
        for reference, value in self._chain(continued.head if continued else None):
            history = Reference.model_validate(value["history"])
            earlier = self._patiently(lambda r=history: self._payloads.get(r))
            written += [*_referred_by(earlier), *_referred_by(value["answers"]), history, reference]
        for one in dict.fromkeys(written):
            if one.key.startswith(f"{instance_id}|"):
                self._patiently(lambda one=one: self._payloads.delete(one))

    def offload(self, instance_id: str, value: Any) -> Any:
        """`value`, or a reference where it is large. Raises PayloadTooLargeError."""
        return self._patiently(lambda: self._payloads.offload(instance_id, value))

    def resolve(self, value: Any) -> Any:
        """What `offload` was given. Raises PayloadLostError."""
        return self._patiently(lambda: self._payloads.resolve(value))

    def _chain(self, head: Reference | None) -> list[tuple[Reference, Any]]:
        found: list[tuple[Reference, Any]] = []
        while head is not None:
            value = self._patiently(lambda head=head: self._payloads.get(head))
            found.append((head, value))
            head = Reference.model_validate(value["previous"]) if value["previous"] else None
        return found[::-1]


def continued_of(workflow_input: Any) -> Continued | None:
    """Where an execution goes on, by its input; None for a run's first one."""
    continued = workflow_input.get("continued") if isinstance(workflow_input, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return Continued.model_validate(continued) if continued else None


def whole_history(events: list[HistoryEvent], payloads: Payloads) -> list[HistoryEvent]:
    """A run's events since it began, with whole inputs and results, out of its current segment's.

    Raises PayloadLostError.
    """
    return [
        event.model_copy(
            update={
                "sequence": number,
                "input": _whole(event.input, payloads),
                "result": payloads.resolve(event.result),
            }
        )
        for number, event in enumerate(with_earlier(events, Journal(payloads, lambda _: [])))
    ]


def with_earlier(events: list[HistoryEvent], journal: Journal) -> list[HistoryEvent]:
    """The events of a run's current segment, after those of its earlier ones. Raises PayloadLostError."""
    started = next((event for event in events if event.type == "executionStarted"), None)
    continued = continued_of(started.input) if started else None
    return (journal.history(continued.head) if continued else []) + events


def _referred_by(value: Any) -> list[Reference]:
    """Every reference in a value, however deep."""
    reference = reference_of(value)
    if reference is not None:
        return [reference]
    inner: Any = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return [found for one in inner for found in _referred_by(one)]


def _whole(value: Any, payloads: Payloads) -> Any:
    """An input with what was kept beside it."""
    if not isinstance(value, dict):
        return value
    whole = cast("dict[str, Any]", value)
    return {name: payloads.resolve(one) if name in ("params", PAYLOAD) else one for name, one in whole.items()}


def dump_answer(answer: Answer) -> list[Any]:
    """An answer as JSON."""
    error = answer.error.model_dump(mode="json", exclude_none=True) if answer.error else None
    return [answer.number, answer.moment.at.isoformat(), answer.value, error, answer.attempt, answer.event]


def load_answer(wire: Sequence[Any]) -> Answer:
    """The answer again, as one that has been given before."""
    number, at, value, error, attempt, event = wire
    rebuilt = ErrorValue.model_validate(error) if error else None
    return Answer(number, value, rebuilt, _moment(at), tuple(attempt) if attempt else None, event)


def _completed(events: list[HistoryEvent], answers: list[Answer]) -> list[HistoryEvent]:
    """The events with the answers that came in the segment's last turn, which was not saved when it was read."""
    by_attempt = {answer.attempt: answer for answer in answers if answer.attempt}
    answered = {event.task_id for event in events if event.type in ("taskCompleted", "taskFailed")}
    raised = {event.name for event in events if event.type == "eventRaised"}
    missing = [
        HistoryEvent(sequence=0, type="eventRaised", timestamp=answer.moment.at, name=answer.event, input=answer.value)  # type: ignore[arg-type]
        for answer in answers
        if answer.event and answer.event not in raised
    ]
    for event in events:
        if event.type != "taskScheduled" or event.task_id in answered or not isinstance(event.input, dict):
            continue
        answer = by_attempt.get((event.input.get("ordinal"), event.input.get("attempt")))  # type: ignore[arg-type]
        if answer is not None:
            error = RunError(type=answer.error.type, message=answer.error.message) if answer.error else None
            missing.append(
                HistoryEvent(
                    sequence=0,
                    type="taskFailed" if error else "taskCompleted",
                    timestamp=answer.moment.at,
                    task_id=event.task_id,
                    result=answer.value,  # type: ignore[arg-type]
                    error=error,
                )
            )
    return events + missing


def _moment(text: str) -> Moment:
    return Moment(datetime.fromisoformat(text).astimezone(UTC), replaying=True)
