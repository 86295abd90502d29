"""What is measured of a contender. Every function asks running programs and returns plain figures, with their unit."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from loadtests.library.contenders import CONTENDERS, Program, UnmeasurableError, running
from loadtests.library.stack import Stack
from loadtests.telling import Say

OURS = "holdfast"
KEPT_RUNS = 256
MIB = 1024 * 1024


@dataclass(frozen=True)
class Scale:
    """How much is measured. `steps` are the lengths of single runs, `burst` the concurrent runs and their steps."""

    repeats: int
    steps: Sequence[int]
    burst: tuple[int, int]
    workers: Sequence[int]
    stored_steps: Sequence[int]
    resumed_steps: int
    parked_runs: int

    @property
    def fewer(self) -> int:
        """How often what takes long, and varies less for it, is repeated."""
        return min(self.repeats, 3)


FULL = Scale(5, (20, 100, 300), (100, 6), (1, 2, 4), (100, 200, 300), 100, 1000)
QUICK = Scale(1, (5, 20), (10, 3), (1, 2), (40, 80), 20, 40)
SLOW_STEPS = 100
"""The longest run asked of a contender that took more than `SLOW_MS` for a step of the shortest one."""
SLOW_MS = 100.0


@dataclass
class Figures:
    """What was measured, by contender; a contender that could not be is in `missing`, with the reason."""

    ms_per_step: dict[str, dict[int, list[float]]] = field(default_factory=dict[str, dict[int, list[float]]])
    steps_per_second: dict[str, dict[int, list[float]]] = field(default_factory=dict[str, dict[int, list[float]]])
    """By contender and its number of workers."""
    stored_bytes_per_step: dict[int, float] = field(default_factory=dict[int, float])
    resume_seconds: list[float] = field(default_factory=list[float])
    kept_run_bytes: float | None = None
    evicted_run_bytes: float | None = None
    parked: dict[str, float] = field(default_factory=dict[str, float])
    missing: dict[str, str] = field(default_factory=dict[str, str])
    """By contender, or by `contender, what of it`."""
    burst: tuple[int, int] = (0, 0)
    resumed_steps: int = 0
    part_seconds: dict[str, float] = field(default_factory=dict[str, float])
    """How long the measuring itself took."""


def measure(stack: Stack, environments: Path, scale: Scale, names: Sequence[str], say: Say) -> Figures:
    """Every figure of the contenders of these names; of ours, also what the others don't have.

    What can't be measured is in `missing`, and the rest goes on.
    """
    figures = Figures(burst=scale.burst, resumed_steps=scale.resumed_steps)
    with contextlib.ExitStack() as held:
        programs: dict[str, Program] = {}
        for name in names:
            say(f"starting {CONTENDERS[name].title}")
            with _part(figures, "start", name):
                program = held.enter_context(running(CONTENDERS[name], stack, environments))
                program.call("one", steps=3)
                programs[name] = program
        with _part(figures, "single runs", "single runs"):
            measure_steps(programs, scale, figures, say)
        with _part(figures, "concurrent runs", "concurrent runs"):
            measure_bursts(programs, scale, figures, say)
        if OURS in programs:
            with _part(figures, "storage", f"{OURS}, storage"):
                measure_storage(programs[OURS], stack, scale, figures, say)
    if OURS in programs:
        with _part(figures, "resume", f"{OURS}, resume"):
            measure_resume(stack, environments, scale, figures, say)
        with _part(figures, "runs in flight", f"{OURS}, runs in flight"):
            measure_parked(stack, environments, scale, figures, say)
        for workers in scale.workers[1:]:
            with _part(figures, f"{workers} workers", f"{OURS}, {workers} workers"):
                measure_workers(stack, environments, workers, scale, figures, say)
    return figures


@contextlib.contextmanager
def _part(figures: Figures, part: str, what: str) -> Generator[None]:
    """Counts the seconds of a part; where it can't be measured, says why under `what`."""
    began = time.monotonic()
    try:
        yield
    except UnmeasurableError as error:
        figures.missing[what] = str(error)
    finally:
        figures.part_seconds[part] = figures.part_seconds.get(part, 0.0) + time.monotonic() - began


def measure_steps(programs: Mapping[str, Program], scale: Scale, figures: Figures, say: Say) -> None:
    """Milliseconds per step of one run alone, the contenders taking turns so that all meet the same machine."""
    for steps in scale.steps:
        repeats = scale.repeats if steps == scale.steps[0] else scale.fewer
        for number in range(repeats):
            for name, program in programs.items():
                own = figures.ms_per_step.setdefault(name, {})
                if steps > CONTENDERS[name].longest:
                    figures.missing[f"{name}, {steps} steps"] = CONTENDERS[name].beyond
                    continue
                if steps > SLOW_STEPS and median(own.get(scale.steps[0], [math.inf])) > SLOW_MS:
                    continue
                say(f"one run of {steps} steps, {number + 1} of {repeats}: {name}")
                try:
                    seconds = program.call("one", steps=steps)["seconds"]
                except UnmeasurableError as error:
                    figures.missing[f"{name}, {steps} steps"] = str(error)
                    continue
                own.setdefault(steps, []).append(seconds / steps * 1000)


def measure_bursts(programs: Mapping[str, Program], scale: Scale, figures: Figures, say: Say) -> None:
    """Steps per second of concurrent runs on one worker, in turns."""
    runs, steps = scale.burst
    for number in range(scale.fewer):
        for name, program in programs.items():
            say(f"{runs} runs of {steps} steps at once, {number + 1}: {name}")
            try:
                seconds = program.call("many", runs=runs, steps=steps)["seconds"]
            except UnmeasurableError as error:
                figures.missing[f"{name}, {runs} runs"] = str(error)
                continue
            figures.steps_per_second.setdefault(name, {}).setdefault(1, []).append(runs * steps / seconds)


def measure_workers(stack: Stack, environments: Path, workers: int, scale: Scale, figures: Figures, say: Say) -> None:
    """Steps per second of the same burst on several workers of ours, each with its own sidecar."""
    runs, steps = scale.burst
    with contextlib.ExitStack() as held:
        programs = [held.enter_context(_ours(stack, environments, number)) for number in range(workers)]
        programs[0].call("many", runs=workers * 4, steps=1)
        for number in range(scale.fewer):
            say(f"{runs} runs of {steps} steps at once on {workers} workers, {number + 1}")
            seconds = programs[0].call("many", runs=runs, steps=steps)["seconds"]
            figures.steps_per_second.setdefault(OURS, {}).setdefault(workers, []).append(runs * steps / seconds)


def measure_storage(program: Program, stack: Stack, scale: Scale, figures: Figures, say: Say) -> None:
    """Bytes that the database holds for one run at its end, per step: history, answers, and what is beside them."""
    for steps in scale.stored_steps:
        say(f"what a run of {steps} steps stores")
        run_id = f"stored-{steps}"
        program.call("named", run_id=run_id, steps=steps)
        (row,) = stack.database.execute(f"select sum(length(value)) from state where key like '%{run_id}%'")  # noqa: S608
        figures.stored_bytes_per_step[steps] = int(str(row[0])) / steps


def measure_resume(stack: Stack, environments: Path, scale: Scale, figures: Figures, say: Say) -> None:
    """Seconds from a new worker's readiness to the end of a run that waits for a person."""
    for number in range(scale.repeats):
        say(f"a new worker resumes a run of {scale.resumed_steps} steps, {number + 1} of {scale.repeats}")
        with _ours(stack, environments) as program:
            run_id = f"resumed-{time.time_ns()}"
            program.call("ask", run_id=run_id, steps=scale.resumed_steps)
        with _ours(stack, environments) as program:
            released = program.call("release", run_ids=[run_id])
        if released["completed"] != 1:
            raise UnmeasurableError(f"the resumed run did not end: {released['failed']}")
        figures.resume_seconds.append(released["seconds"])


def measure_parked(stack: Stack, environments: Path, scale: Scale, figures: Figures, say: Say) -> None:
    """Memory per kept run and per evicted one, and all of them in flight at once, to their ends."""
    kept = min(KEPT_RUNS, scale.parked_runs // 4)
    with _ours(stack, environments, kept=kept) as program:
        program.call("many", runs=50, steps=3)
        before = program.call("memory")["resident"]
        say(f"{kept} runs wait, all kept in memory")
        full = program.call("park", runs=kept)["resident"]
        say(f"{scale.parked_runs} runs wait, {kept} kept in memory")
        over = program.call("park", runs=scale.parked_runs)["resident"]
        figures.kept_run_bytes = (full - before) / kept
        figures.evicted_run_bytes = (over - full) / (scale.parked_runs - kept)
        figures.parked = {"in flight": scale.parked_runs, "worker MiB waiting": over / MIB}
        say(f"{scale.parked_runs} runs are released")
        released = program.call("release", run_ids=[f"parked-{number}" for number in range(scale.parked_runs)])
        figures.parked |= {
            "completed": released["completed"],
            "seconds": released["seconds"],
            "worker MiB at the end": program.call("memory")["resident"] / MIB,
            "sidecar MiB": stack.resident_sidecars() / MIB,
        }


def _ours(
    stack: Stack, environments: Path, sidecar: int = 0, kept: int = KEPT_RUNS
) -> contextlib.AbstractContextManager[Program]:
    return running(CONTENDERS[OURS], stack, environments, [str(stack.sidecar(sidecar).grpc_port), str(kept)])
