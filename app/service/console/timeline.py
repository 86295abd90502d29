"""What a run did in the order of time: every attempt at every operation, who answered it where, and each failover.

A history doesn't say in which region something was executed. It has the time of each answer, and the signal `recover`
with its epoch; which region was active in which epoch, and since when, is in the record of epochs. An answer counts
only once it is saved, which only the active region can do: so the epoch in force when it was saved is where it was
given. Where there is no record, nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_ai_dapr import RECOVER, HistoryEvent, Step, steps
from run_index import Epoch, epoch_at

from service.approvals import Waiting, waiting

WIDTH = 1000
"""Of the picture, in its own units."""
_SIGNAL = re.compile(r"epoch (\d{1,9})\b.*")


@dataclass(frozen=True)
class Line:
    """One attempt at an operation. `epoch` is in force when it was answered or, while it is open, issued."""

    step: Step
    epoch: Epoch | None
    issued_in: Epoch | None
    tokens: tuple[int, int] | None
    x: float = 0.0
    width: float = 0.0

    @property
    def moved(self) -> bool:
        """Whether it was issued in one epoch and answered in another."""
        return self.epoch is not None and self.issued_in is not None and self.epoch.epoch != self.issued_in.epoch


@dataclass(frozen=True)
class Failover:
    """The signal with which a region took the run up: in another epoch, or after its scheduler forgot its wake-ups."""

    at: datetime
    number: int
    epoch: Epoch | None
    is_new_epoch: bool = True
    x: float = 0.0


@dataclass(frozen=True)
class Timeline:
    """A run's operations and failovers, in the order in which they began."""

    rows: list[Line | Failover] = field(default_factory=list["Line | Failover"])
    waiting: list[Waiting] = field(default_factory=list[Waiting])
    begun: datetime | None = None
    until: datetime | None = None

    @property
    def lines(self) -> list[Line]:
        return [row for row in self.rows if isinstance(row, Line)]

    @property
    def failovers(self) -> list[Failover]:
        return [row for row in self.rows if isinstance(row, Failover)]

    @property
    def moves(self) -> list[Failover]:
        """The failovers among the signals."""
        return [one for one in self.failovers if one.is_new_epoch]

    @property
    def tokens(self) -> tuple[int, int]:
        """What the models read and wrote, as far as their answers say."""
        known = [line.tokens for line in self.lines if line.tokens]
        return sum(one[0] for one in known), sum(one[1] for one in known)

    @property
    def seconds(self) -> float:
        """From the first event to the last one, or to now."""
        return (self.until - self.begun).total_seconds() if self.begun and self.until else 0.0

    @property
    def failed_attempts(self) -> int:
        """How many attempts at operations failed."""
        return sum(1 for line in self.lines if line.step.error is not None)


def timeline(events: Sequence[HistoryEvent], epochs: Sequence[Epoch], now: datetime) -> Timeline:
    """The timeline of a history, as of `now` where it has no end."""
    if not events:
        return Timeline()
    begun = events[0].timestamp
    ended = any(event.type in ("executionCompleted", "executionTerminated") for event in events[-2:])
    until = max(events[-1].timestamp if ended else now, begun)
    scale = WIDTH / max((until - begun).total_seconds(), 0.001)

    def x(at: datetime) -> float:
        return round(min(max((at - begun).total_seconds() * scale, 0.0), WIDTH), 1)

    rows: list[tuple[datetime, int, Line | Failover]] = []
    for step in steps(events):
        left, right = x(step.started), x(step.ended or until)
        line = Line(
            step,
            epoch_at(epochs, step.ended or step.started),
            epoch_at(epochs, step.started),
            _tokens(step),
            min(left, WIDTH - 3),
            max(right - left, 3),
        )
        rows.append((step.started, 1, line))
    rows += [(one.at, 0, replace(one, x=x(one.at))) for one in _failovers(events, epochs)]
    rows.sort(key=lambda row: row[:2])
    return Timeline([row for _, _, row in rows], [] if ended else waiting(events), begun, until)


def _failovers(events: Sequence[HistoryEvent], epochs: Sequence[Epoch]) -> Iterable[Failover]:
    known = {epoch.epoch: epoch for epoch in epochs}
    first = epoch_at(epochs, events[0].timestamp)
    number, heeded = first.epoch if first else 0, set[str]()
    for event in events:
        # A run heeds a signal once; the agent repeats it until the run has moved.
        token = str(event.input) if event.type == "eventRaised" and event.name == RECOVER else ""
        match = _SIGNAL.fullmatch(token)
        if match is None or token in heeded:
            continue
        is_first_of_own = not heeded and int(match[1]) == number
        heeded.add(token)
        is_new, number = int(match[1]) != number, int(match[1])
        if not is_first_of_own:
            yield Failover(event.timestamp, number, known.get(number), is_new)


class _Usage(BaseModel):
    model_config = ConfigDict(extra="ignore")
    input_tokens: int
    output_tokens: int


class _Response(BaseModel):
    """What a model answered, as far as it is looked at here."""

    model_config = ConfigDict(extra="ignore")
    usage: _Usage | None = None


def _response(step: Step) -> _Response:
    try:
        return _Response.model_validate(step.output) if step.kind == "model" else _Response()
    except ValidationError:
        return _Response()


def _tokens(step: Step) -> tuple[int, int] | None:
    usage = _response(step).usage
    return (usage.input_tokens, usage.output_tokens) if usage else None


def places(epochs: Sequence[Epoch], since: datetime, until: datetime) -> list[str]:
    """The regions that were active between two times, in their order; none where that is not recorded."""
    first = epoch_at(epochs, since)
    later = [epoch for epoch in epochs if since < epoch.activated_at <= until]
    regions = [epoch.region for epoch in ([first] if first else []) + later]
    return [region for number, region in enumerate(regions) if number == 0 or regions[number - 1] != region]
