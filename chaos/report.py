"""A report is one folder: the raw history, the verdict as JSON, and one self-contained page for people."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict

from chaos.checks import judge
from chaos.checks.writers import Execution, executions
from chaos.history import History
from chaos.recovery import Recovery, recovery
from chaos.verdict import Answer, CheckResult, combined

WIDTH, LEFT, ROW, TOP = 1160, 150, 13, 92
VERDICT, PAGE = "verdict.json", "report.html"


class Verdict(BaseModel):
    """What the checkers said of one experiment."""

    model_config = ConfigDict(frozen=True)

    experiment: str
    answer: Answer
    recovery: Recovery
    checks: list[CheckResult]
    runs: int
    planted: str | None = None


def verdict_of(history: History, planted: str | None = None) -> Verdict:
    """Judge a history."""
    checks = judge(history)
    return Verdict(
        experiment=history.experiment,
        answer=combined(checks),
        recovery=recovery(history),
        checks=checks,
        runs=len(history.accepted),
        planted=planted,
    )


def write_report(folder: Path, history: History, verdict: Verdict) -> Path:
    """Write history, verdict and page; returns the page."""
    history.save(folder / "history")
    (folder / VERDICT).write_text(verdict.model_dump_json(indent=1) + "\n", encoding="utf-8")
    environment = Environment(loader=PackageLoader("chaos", "."), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("report.html.jinja").render(
        verdict=verdict,
        timeline=timeline(history),
        phases=_phases(verdict.recovery),
        faults=history.faults,
        written=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    )
    path = folder / PAGE
    path.write_text(page, encoding="utf-8")
    return path


@dataclass(frozen=True)
class Bar:
    """A rectangle of the timeline, in pixels, with what it stands for."""

    x: float
    y: float
    width: float
    kind: str
    title: str


@dataclass(frozen=True)
class Mark:
    """A vertical line of the timeline with its label."""

    x: float
    y: float
    kind: str
    label: str


@dataclass(frozen=True)
class Timeline:
    """Everything that the page draws: roles on top, then one lane for each run."""

    height: float
    bars: list[Bar]
    roles: list[Bar]
    marks: list[Mark]
    lanes: list[tuple[float, str]]
    ticks: list[tuple[float, str]]


def timeline(history: History) -> Timeline | None:
    """The runs' operations by region, the roles and the faults, on one axis of time."""
    done = executions(history)
    if not done:
        return None
    begin = min(execution.began for execution in done)
    end = max(_end(execution) for execution in done)
    scale = (WIDTH - LEFT - 20) / max(end - begin, 0.1)

    def x(at: float) -> float:
        return round(LEFT + (min(max(at, begin), end) - begin) * scale, 1)

    by_run: dict[str, list[Execution]] = defaultdict(list)
    for execution in done:
        by_run[execution.run_id].append(execution)
    bars: list[Bar] = []
    lanes: list[tuple[float, str]] = []
    for lane, (run_id, entries) in enumerate(sorted(by_run.items())):
        y = TOP + lane * ROW
        lanes.append((y + ROW - 4, run_id))
        for one in entries:
            width = max(x(_end(one)) - x(one.began), 1.5)
            title = f"{run_id}:{one.ordinal} in region {one.region}, {one.worker}, epoch {one.epoch}"
            cut = " cut" if one.ended == float("inf") else ""
            bars.append(Bar(x(one.began), y + 2, width, f"r{one.region}{cut}", title))
    step = _step(end - begin)
    ticks = [(x(begin + second), f"{second:g} s") for second in _range(end - begin, step)]
    height = TOP + len(by_run) * ROW + 30
    return Timeline(height, bars, _roles(history, begin, end, x), _marks(history, begin, end, x), lanes, ticks)


def _end(execution: Execution) -> float:
    return execution.ended if execution.ended != float("inf") else execution.began + 0.05


def _roles(history: History, begin: float, end: float, x: Callable[[float], float]) -> list[Bar]:
    """When each region was active, by its agent's word, or until it was lost."""
    found: list[Bar] = []
    lost = [(fault.target.removeprefix("region "), fault.at) for fault in history.faults if fault.name == "region-loss"]
    for row, region in enumerate(sorted({event.region for event in history.events or []} | {"a", "b"})):
        changes = [
            (event.at, event.member("to") == "active")
            for event in history.events or []
            if event.region == region and event.event == "role-changed"
        ]
        changes += [(at, False) for name, at in lost if name == region]
        first_attempts = [one.at for one in history.attempts or [] if one.region == region and one.at <= begin + 0.01]
        active_since = begin if first_attempts else None
        for at, active in sorted(changes):
            if active and active_since is None:
                active_since = at
            elif not active and active_since is not None:
                found.append(
                    Bar(
                        x(active_since), 18 + row * 16, x(at) - x(active_since), f"r{region}", f"region {region} active"
                    )
                )
                active_since = None
        if active_since is not None:
            found.append(
                Bar(x(active_since), 18 + row * 16, x(end) - x(active_since), f"r{region}", f"region {region} active")
            )
    return found


def _marks(history: History, begin: float, end: float, x: Callable[[float], float]) -> list[Mark]:
    """Faults above the lanes; what region agents did below them, one row each, for they come close together."""
    marks = [Mark(x(fault.at), 11, "fault", f"{fault.name}: {fault.target}") for fault in history.faults]
    labels = {"early-release": "lease released", "promoted": "promoted", "activated": "active"}
    rows = {event: 60 + 12 * row for row, event in enumerate(labels)}
    for event in history.events or []:
        shown = event.event in labels and begin <= event.at <= end
        if shown and (event.event != "early-release" or event.member("decision") == "released"):
            marks.append(Mark(x(event.at), rows[event.event], "event", labels[event.event]))
    return marks


def _phases(found: Recovery) -> list[dict[str, Any]]:
    values = {name: getattr(found, name) for name in ("detect", "promote", "activate", "resume")}
    known = {name: value for name, value in values.items() if value is not None}
    whole = sum(known.values()) or 1.0
    return [{"name": name, "seconds": value, "percent": round(100 * value / whole, 2)} for name, value in known.items()]


def _step(seconds: float) -> float:
    return next((step for step in (0.5, 1, 2, 5, 10, 20, 30, 60) if seconds / step <= 14), 120)


def _range(seconds: float, step: float) -> list[float]:
    return [number * step for number in range(int(seconds / step) + 1)]
