"""What is measured of each cell: a distance and a kind of replication."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

import httpx
from holdfast.client import NotAnsweredError
from pydantic import BaseModel, ConfigDict, Field

from loadtests.tax.regions import NotInForceError, Regions, Replication
from loadtests.telling import Say

ROUND_TRIPS = (0, 20, 60, 150)
REPLICATIONS: tuple[Replication, ...] = ("synchronous", "asynchronous")
STARTERS = 32
END_SECONDS, POLL_SECONDS = 300.0, 0.2
Kind = TypeVar("Kind")


class Scale(BaseModel):
    """`single` is a run alone, repeated `repeats` times; `burst` of so many runs at once, `bursts` times."""

    model_config = ConfigDict(frozen=True)

    single_steps: int
    repeats: int
    burst_runs: int
    burst_steps: int
    bursts: int


FULL = Scale(single_steps=20, repeats=3, burst_runs=50, burst_steps=6, bursts=2)
QUICK = Scale(single_steps=5, repeats=2, burst_runs=10, burst_steps=3, bursts=1)


class Cell(BaseModel):
    """The samples of one distance and one kind of replication. `missing` says why there are none, or fewer."""

    round_trip_ms: int
    replication: Replication
    scale: Scale
    measured_at: float
    handshake_ms: float | None = None
    """What was seen of the distance: a TLS handshake over the link between the regions."""
    load: float | None = None
    """How many processes wanted a core in the last minute, on the average: far above the cores, others had a part."""
    ms_per_step: list[float] = Field(default_factory=list[float])
    runs_per_second: list[float] = Field(default_factory=list[float])
    missing: str | None = None


class UnmeasurableError(Exception):
    """Runs did not do what they were started for."""


def measure(
    regions: Regions, round_trips: Sequence[int], replications: Sequence[Replication], scale: Scale, say: Say
) -> Iterator[Cell]:
    """Every cell as soon as it is measured. What can't be measured says so, and the rest goes on."""
    warm_up(regions, say)
    asked = list(itertools.product(round_trips, replications))
    for number, (apart, kind) in enumerate(asked, 1):
        say(f"{number} of {len(asked)}: {apart} ms, {kind}")
        cell = Cell(round_trip_ms=apart, replication=kind, scale=scale, measured_at=time.time())
        try:
            _measure(regions, cell, say)
        except (NotInForceError, UnmeasurableError, NotAnsweredError, httpx.HTTPError) as error:
            cell.missing = str(error)
            say(f"not measured: {error}")
        yield cell


def warm_up(regions: Regions, say: Say) -> None:
    """Runs that nobody measures: connections are made, code is loaded."""
    say("warming up")
    run_seconds(regions, 8, 3)


def run_seconds(regions: Regions, runs: int, steps: int) -> tuple[float, list[float]]:
    """So many runs at once: seconds from the first start to the last end, and each run's own, by its history."""
    prefix = f"tax-{time.time_ns()}"
    ids = [f"{prefix}-{number}" for number in range(runs)]
    began = time.time()
    with ThreadPoolExecutor(STARTERS) as pool:
        outcomes = list(pool.map(lambda run_id: regions.client.start(run_id, {"steps": steps}), ids))
        refused = next((one for one in outcomes if one.outcome != "ok"), None)
        if refused is not None:
            raise UnmeasurableError(f"a start was {refused.outcome}: {refused.detail}")
        _await_end(regions, prefix)
        spans = list(pool.map(lambda run_id: _span(regions, run_id, steps), ids))
    return max(end for _, end in spans) - began, [end - begin for begin, end in spans]


def _measure(regions: Regions, cell: Cell, say: Say) -> None:
    cell.handshake_ms = regions.set(cell.round_trip_ms, cell.replication)
    epoch, scale = regions.epoch(), cell.scale
    run_seconds(regions, 1, 3)
    for number in range(scale.repeats):
        say(f"  one run of {scale.single_steps} steps, {number + 1} of {scale.repeats}")
        _, (seconds,) = run_seconds(regions, 1, scale.single_steps)
        cell.ms_per_step.append(seconds / scale.single_steps * 1000)
    for number in range(scale.bursts):
        say(f"  {scale.burst_runs} runs of {scale.burst_steps} steps at once, {number + 1} of {scale.bursts}")
        seconds, _ = run_seconds(regions, scale.burst_runs, scale.burst_steps)
        cell.runs_per_second.append(scale.burst_runs / seconds)
    cell.load = os.getloadavg()[0]
    if regions.epoch() != epoch:
        raise NotInForceError(f"the active region changed meanwhile: epoch {epoch}, then {regions.epoch()}")


def _await_end(regions: Regions, prefix: str) -> None:
    deadline = time.monotonic() + END_SECONDS
    while still := regions.client.runs(status="open", id_contains=prefix):
        if time.monotonic() > deadline:
            raise UnmeasurableError(
                f"{len(still)} runs had not ended after {END_SECONDS:g} s, {still[0].run_id} is one"
            )
        time.sleep(POLL_SECONDS)


def _span(regions: Regions, run_id: str, steps: int) -> tuple[float, float]:
    """When a run began and ended, by its own history; it must have done what it was started for."""
    run = regions.client.run(run_id)
    if run is None or run.status != "completed" or f"counted to {steps}" not in str(run.output):
        raise UnmeasurableError(f"{run_id} is {run.status if run else 'unknown'}: {run.error if run else ''}")
    at = {event.type: datetime.fromisoformat(event.timestamp).timestamp() for event in regions.client.history(run_id)}
    return at["executionStarted"], at["executionCompleted"]


def merged(before: Sequence[Cell], now: Sequence[Cell]) -> list[Cell]:
    """The cells of both, each in its newer form, nearest first."""
    newest = {(one.round_trip_ms, one.replication): one for one in itertools.chain(before, now)}
    return [newest[key] for key in sorted(newest, key=lambda key: (key[0], REPLICATIONS.index(key[1])))]
