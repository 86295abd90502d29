"""What is promised of the library's speed, and whether figures show it: no figure, no verdict.

A bar is judged on medians of one run, and only at the scale that it speaks of. An overhead is a contender's
milliseconds per step less those of the agent alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from loadtests.library.cells import FULL, OURS, Figures

__all__ = ["DOES_NOT_HOLD", "HOLDS", "UNMEASURED", "Bar", "Verdict", "exit_status", "judge", "overhead"]

Verdict = Literal["holds", "does not hold", "unmeasured"]
HOLDS, DOES_NOT_HOLD, UNMEASURED = 0, 1, 2
ALONE, COMPETITOR, PEER = "plain", "diagrid", "dbos"
SHORT, LONG = FULL.steps[0], FULL.steps[-1]


@dataclass(frozen=True)
class Bar:
    """One promise: `value` is at most (`sense` "≤") or at least ("≥") `limit`, both in `unit`.

    `basis` is what the value is made of; of a bar without a value, what it lacks.
    """

    name: str
    value: float | None
    sense: Literal["≤", "≥"]
    limit: float
    unit: str
    basis: str

    @property
    def verdict(self) -> Verdict:
        """Whether the value keeps to its limit."""
        if self.value is None:
            return "unmeasured"
        return (
            "holds"
            if (self.value <= self.limit if self.sense == "≤" else self.value >= self.limit)
            else "does not hold"
        )


def judge(figures: Figures) -> list[Bar]:
    """Every bar, in the order in which they are told."""
    return [
        _step(figures),
        _against("overhead per step, against diagrid's", figures, COMPETITOR, 1 / 3),
        _against("overhead per step, against DBOS's", figures, PEER, 2.5),
        _long_runs(figures),
        _stored_bytes(figures),
        _throughput(figures),
        _resume(figures),
        _memory(figures),
        _in_flight(figures),
    ]


def exit_status(bars: Iterable[Bar]) -> int:
    """1 if a bar does not hold, else 2 if one is unmeasured, else 0."""
    verdicts = {bar.verdict for bar in bars}
    if "does not hold" in verdicts:
        return DOES_NOT_HOLD
    return UNMEASURED if "unmeasured" in verdicts else HOLDS


def overhead(figures: Figures, name: str, steps: int) -> float | None:
    """Median milliseconds per step that the contender adds to the agent alone, where both were measured."""
    own, alone = (figures.ms_per_step.get(one, {}).get(steps) for one in (name, ALONE))
    return median(own) - median(alone) if own and alone else None


def _step(figures: Figures) -> Bar:
    value = overhead(figures, OURS, SHORT)
    basis = f"one run of {SHORT} steps, model and tool instant" if value is not None else _lacks(figures, OURS, ALONE)
    return Bar("overhead per step", value, "≤", 40, "ms", basis)


def _against(name: str, figures: Figures, other: str, limit: float) -> Bar:
    ours, theirs = overhead(figures, OURS, SHORT), overhead(figures, other, SHORT)
    if ours is None or theirs is None:
        return Bar(name, None, "≤", limit, "×", _lacks(figures, OURS, other, ALONE))
    return Bar(name, ours / theirs, "≤", limit, "×", f"{ours:.1f} ms to {theirs:.1f} ms at {SHORT} steps")


def _long_runs(figures: Figures) -> Bar:
    short, long = (overhead(figures, OURS, steps) for steps in (SHORT, LONG))
    name = f"overhead per step at {LONG} steps, against that at {SHORT}"
    if short is None or long is None:
        return Bar(name, None, "≤", 1.5, "×", _lacks(figures, OURS, ALONE))
    return Bar(name, long / short, "≤", 1.5, "×", f"{long:.1f} ms to {short:.1f} ms")


def _stored_bytes(figures: Figures) -> Bar:
    stored = figures.stored_bytes_per_step
    name = f"spread of stored bytes per step, up to {LONG} steps"
    if not stored or max(stored) < LONG or len(stored) < 2:
        return Bar(name, None, "≤", 10, "%", _lacks(figures, OURS))
    basis = ", ".join(f"{value:,.0f} B at {steps}" for steps, value in sorted(stored.items()))
    return Bar(name, (max(stored.values()) / min(stored.values()) - 1) * 100, "≤", 10, "%", basis)


def _throughput(figures: Figures) -> Bar:
    runs, steps = FULL.burst
    name = f"steps per second of {runs} concurrent runs on one worker, against DBOS's"
    ours, theirs = (figures.steps_per_second.get(one, {}).get(1) for one in (OURS, PEER))
    if figures.burst != FULL.burst or not ours or not theirs:
        return Bar(name, None, "≥", 1, "×", _lacks(figures, OURS, PEER))
    basis = f"{median(ours):.0f} to {median(theirs):.0f} steps/s, {runs} runs of {steps} steps"
    return Bar(name, median(ours) / median(theirs), "≥", 1, "×", basis)


def _resume(figures: Figures) -> Bar:
    name = f"cold resume of a run of {FULL.resumed_steps} steps"
    if figures.resumed_steps != FULL.resumed_steps or not figures.resume_seconds:
        return Bar(name, None, "≤", 1, "s", _lacks(figures, OURS))
    spread = (
        f"{min(figures.resume_seconds):.2f} to {max(figures.resume_seconds):.2f} s in {len(figures.resume_seconds)}"
    )
    return Bar(name, median(figures.resume_seconds), "≤", 1, "s", f"from a new worker's readiness to the end; {spread}")


def _memory(figures: Figures) -> Bar:
    kept, evicted = figures.kept_run_bytes, figures.evicted_run_bytes
    name = "memory of an evicted run, against that of a kept one"
    if not figures.parked or figures.parked["in flight"] < FULL.parked_runs or not kept or evicted is None:
        return Bar(name, None, "≤", 1, "×", _lacks(figures, OURS))
    return Bar(name, max(evicted, 0) / kept, "≤", 1, "×", f"{evicted / 1024:.0f} KiB to {kept / 1024:.0f} KiB")


def _in_flight(figures: Figures) -> Bar:
    parked = figures.parked
    name = f"of {FULL.parked_runs} runs in flight at once, completed"
    if "completed" not in parked or parked["in flight"] < FULL.parked_runs:
        return Bar(name, None, "≥", FULL.parked_runs, "runs", _lacks(figures, OURS))
    memory = f"worker {parked['worker MiB waiting']:.0f} MiB, sidecar {parked['sidecar MiB']:.0f} MiB"
    return Bar(name, parked["completed"], "≥", FULL.parked_runs, "runs", memory)


def _lacks(figures: Figures, *names: str) -> str:
    """Why there is no figure of these contenders."""
    failed = [f"{part}: {why}" for part, why in figures.missing.items() if part.split(",")[0] in names]
    absent: Sequence[str] = [name for name in names if name not in figures.ms_per_step]
    if failed:
        return "; ".join(failed)
    return f"not asked for: {', '.join(absent)}" if absent else "not measured at this scale"
