"""What is kept of a load, and of a search for the capacity: for people, for programs, and to be drawn again."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from loadtests.telling import machine
from loadtests.traffic.entries import Entry
from loadtests.traffic.figures import Figures, figures
from loadtests.traffic.locusts import Loaded
from loadtests.traffic.objectives import Objectives, Outcome, judge

__all__ = ["Capacity", "Results", "Step", "results_of"]

KEPT_UP = 0.9
"""The share of starts that must be matched by ends within the same time: with less, runs pile up."""


class Results(BaseModel):
    """One load, judged. `busy` is the machine's load average at its end: far above the cores, others had a part."""

    model_config = ConfigDict(frozen=True)

    shape: str
    rate: float
    seconds: float
    warm_up: float
    began: float
    machine: str
    busy: float
    started_per_second: float
    ended_per_second: float
    figures: list[Figures]
    outcomes: list[Outcome]

    @property
    def answer(self) -> bool | None:
        """Whether every objective holds; None where one could not be judged and none was missed."""
        answers = [one.holds for one in self.outcomes]
        return False if False in answers else None if None in answers else True

    @property
    def kept_up(self) -> bool:
        """Whether runs ended as quickly as they were started."""
        return self.ended_per_second >= KEPT_UP * self.started_per_second > 0

    def of(self, name: str) -> Figures:
        """The figures of one kind of entry."""
        return next(one for one in self.figures if one.name == name)


class Step(BaseModel):
    """One rate that was tried. `missing` says why it was not measured."""

    rate: float
    results: Results | None = None
    missing: str | None = None

    @property
    def holds(self) -> bool:
        """Whether the objectives were seen to hold at this rate, with ends that keep up with the starts."""
        return self.results is not None and self.results.answer is True and self.results.kept_up


class Capacity(BaseModel):
    """A whole search, in the order in which rates were tried."""

    machine: str
    measured_at: float
    seconds: float
    warm_up: float
    steps: list[Step]

    @property
    def holds_at(self) -> float | None:
        """The highest rate at which the objectives held, below the lowest at which they did not."""
        missed = self.missed_at
        held = [step.rate for step in self.steps if step.holds and (missed is None or step.rate < missed)]
        return max(held, default=None)

    @property
    def missed_at(self) -> float | None:
        """The lowest rate that was measured at which they did not hold."""
        return min((step.rate for step in self.steps if step.results and not step.holds), default=None)


def results_of(loaded: Loaded, objectives: Objectives) -> Results:
    """What a load's entries come to."""
    load, judged = loaded.load, loaded.judged
    started = sum(entry.name == "start" and entry.error is None for entry in judged)
    return Results(
        shape=load.shape,
        rate=load.rate,
        seconds=load.seconds,
        warm_up=load.warm_up,
        began=loaded.since,
        machine=machine(),
        busy=round(loaded.busy, 1),
        started_per_second=started / load.seconds,
        ended_per_second=_ended(loaded.entries, loaded.since, loaded.until) / load.seconds,
        figures=figures(judged),
        outcomes=judge(objectives, judged),
    )


def _ended(entries: Sequence[Entry], since: float, until: float) -> int:
    """Runs that ended within that time, whenever they had begun."""
    return sum(
        entry.name == "complete" and entry.error is None and since <= entry.at + entry.seconds < until
        for entry in entries
    )
