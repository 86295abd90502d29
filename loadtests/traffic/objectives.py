"""The service's objectives as code: `slo.yaml`, read and checked as a whole, and what a load's entries say to them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from loadtests.traffic.entries import Entry

__all__ = ["OBJECTIVES", "SLO", "BurnRate", "ObjectiveName", "Objectives", "Outcome", "SloError", "judge", "read_slo"]

SLO = Path(__file__).parents[1] / "slo.yaml"
ObjectiveName = Literal["start_availability", "start_latency", "completion_latency", "freshness"]
OBJECTIVES: tuple[ObjectiveName, ...] = ("start_availability", "start_latency", "completion_latency", "freshness")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
Target = Annotated[float, Field(gt=0, lt=100)]
Duration = Annotated[str, Field(pattern=r"^[1-9]\d*[smhd]$")]


class SloError(ValueError):
    """The file is refused; the message holds everything that is wrong with it, each by its key."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Availability(_Strict):
    """`target` percent are good."""

    target: Target

    @property
    def budget(self) -> float:
        """The share that may be bad."""
        return round(1 - self.target / 100, 9)


class Latency(Availability):
    """`target` percent take at most `within_seconds`."""

    within_seconds: Annotated[float, Field(gt=0, le=86_400)]


class Objectives(_Strict):
    """Every objective; each must be there."""

    start_availability: Availability
    start_latency: Latency
    completion_latency: Latency
    freshness: Latency

    def named(self, name: ObjectiveName) -> Availability:
        """One of them."""
        found: Availability = getattr(self, name)
        return found


class BurnRate(_Strict):
    """An alert where the error budget is spent `factor` times as fast as it may, over both windows."""

    severity: Literal["page", "ticket"]
    factor: Annotated[float, Field(gt=0)]
    long: Duration
    short: Duration

    @model_validator(mode="after")
    def _short_is_shorter(self) -> BurnRate:
        if seconds_of(self.short) >= seconds_of(self.long):
            raise ValueError(f"short {self.short} must be shorter than long {self.long}")
        return self


class Slo(_Strict):
    """The whole file."""

    objectives: Objectives
    burn_rates: Annotated[list[BurnRate], Field(min_length=1)]

    @model_validator(mode="after")
    def _every_alert_can_fire(self) -> Slo:
        for name in OBJECTIVES:
            budget = self.objectives.named(name).budget
            for rate in self.burn_rates:
                if rate.factor * budget >= 1:
                    raise ValueError(
                        f"a factor of {rate.factor:g} can never be reached by {name}, whose whole budget is "
                        f"{budget:.3%}: lower the factor, or raise the target"
                    )
        return self


class Outcome(BaseModel):
    """What became of one objective: `holds` is None where nothing was seen of it."""

    model_config = ConfigDict(frozen=True)

    name: ObjectiveName
    promise: str
    good: int
    seen: int
    holds: bool | None

    @property
    def told(self) -> str:
        """The share of good ones, and of how many."""
        return f"{100 * self.good / self.seen:.2f} % of {self.seen}" if self.seen else "nothing was seen"


def seconds_of(duration: str) -> int:
    """Seconds of a duration as Prometheus writes it."""
    return int(duration[:-1]) * _UNITS[duration[-1]]


def read_slo(path: Path = SLO) -> Slo:
    """The file. Raises SloError with all that is wrong with it."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SloError(f"{path} can't be read: {error}") from error
    try:
        return Slo.model_validate(document)
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in _problems(error))
        raise SloError(f"{path} is no statement of objectives:\n{lines}") from error


def judge(objectives: Objectives, entries: Sequence[Entry]) -> list[Outcome]:
    """What the entries say to each objective. A run that failed, or that did not end, is a bad completion."""
    return [_outcome(name, objectives.named(name), entries) for name in OBJECTIVES]


_GOOD: dict[ObjectiveName, tuple[str, Callable[[Entry], bool]]] = {
    "start_availability": ("start", lambda entry: True),
    # A start that was not acknowledged is not slow: it counts above.
    "start_latency": ("start", lambda entry: entry.error is None),
    "completion_latency": ("complete", lambda entry: True),
    "freshness": ("freshness", lambda entry: True),
}
"""The entries that count for each, by name and among these."""


def _outcome(name: ObjectiveName, objective: Availability, entries: Sequence[Entry]) -> Outcome:
    of, counts = _GOOD[name]
    seen = [entry for entry in entries if entry.name == of and counts(entry)]
    within = objective.within_seconds if isinstance(objective, Latency) else None
    good = sum(entry.error is None and (within is None or entry.seconds <= within) for entry in seen)
    promise = f"{objective.target:g} % " + (f"within {within:g} s" if within is not None else "acknowledged")
    holds = len(seen) - good <= round(objective.budget * len(seen), 6) if seen else None
    return Outcome(name=name, promise=promise, good=good, seen=len(seen), holds=holds)


def _problems(error: ValidationError) -> Iterator[str]:
    for one in error.errors():
        place = ".".join(str(part) for part in one["loc"]) or "the file"
        if one["type"] == "extra_forbidden":
            known = _fields_at(one["loc"][:-1])
            near = difflib.get_close_matches(str(one["loc"][-1]), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            yield f"{place}: a key that does not exist; {hint}"
        elif one["type"] == "missing":
            yield f"{place}: is missing"
        elif one["type"] == "value_error":
            yield f"{place}: {one['msg'].removeprefix('Value error, ')}"
        else:
            yield f"{place}: found {one['input']!r}; {one['msg'][:1].lower()}{one['msg'][1:]}"


def _fields_at(place: Sequence[str | int]) -> list[str]:
    model: Any = Slo
    for part in place:
        if not isinstance(part, int):
            model = BurnRate if part == "burn_rates" else model.model_fields[part].annotation
    return list(model.model_fields)
