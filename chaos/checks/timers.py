"""K7: durable timers fire: not early, and late by no more than recovery took and a bound."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from chaos.history import TERMINAL, History, Workflow
from chaos.verdict import CheckResult, result, short_of


@dataclass(frozen=True)
class Alarm:
    """What a run waits for until `due`: one timer, or several where it was issued again; the first to fire counts."""

    run_id: str
    task_id: int
    created: float
    due: float
    fired: float | None


def alarms(workflow: Workflow) -> list[Alarm]:
    """A run's alarms, in the order in which they were set."""
    found: dict[tuple[int, float], Alarm] = {}
    of_task: dict[int | None, tuple[int, float]] = {}
    execution = 0
    for item in workflow.history or []:
        if item.type == "executionStarted":
            # The next segment of a long run, whose tasks are numbered from the beginning.
            execution, of_task = execution + 1, {}
        elif item.type == "timerCreated" and item.due is not None:
            key = of_task[item.task_id] = execution, round(item.due, 3)
            found.setdefault(key, Alarm(workflow.run_id, item.task_id or 0, item.at, item.due, None))
        elif item.type == "timerFired" and item.task_id in of_task:
            key = of_task[item.task_id]
            one = found[key]
            if one.fired is None:
                found[key] = Alarm(one.run_id, one.task_id, one.created, one.due, item.at)
    return list(found.values())


def timers_fire_in_time(history: History) -> CheckResult | None:
    """Invalid where a timer fired early or too late, or has not fired in a run that is open and waits for it."""
    bounds, claim = history.bounds, "timers fire, not early, and late by no more than recovery took"
    found = [alarm for workflow in history.workflows or [] for alarm in alarms(workflow)]
    if not bounds.timers and not found:
        return None
    ended = {workflow.run_id: workflow.status in TERMINAL for workflow in history.workflows or []}
    allowed = bounds.late_seconds + sum(history.outage(fault) for fault in history.faults)
    violations: list[str] = []
    counts: dict[str, int] = defaultdict(int, {"timers": len(found), "fired": 0, "late": 0, "never-fired": 0})
    for alarm in found:
        name = f"{alarm.run_id}:timer {alarm.task_id}"
        if alarm.fired is not None:
            counts["fired"] += 1
            late = alarm.fired - alarm.due
            if late < -bounds.clock_seconds:
                violations.append(f"{name}: fired {-late:.3f} s early")
            elif late > allowed:
                counts["late"] += 1
                violations.append(f"{name}: fired {late:.1f} s late; {allowed:.1f} s are allowed")
        elif not ended[alarm.run_id] and history.recorded_at and history.recorded_at - alarm.due > allowed:
            late = history.recorded_at - alarm.due
            violations.append(
                f"{name}: due {late:.1f} s before the end, and has not fired; {allowed:.1f} s are allowed"
            )
        else:
            # The run has ended otherwise: what the timer was a limit of came in time.
            counts["never-fired"] += 1
    missing = [] if history.workflows is not None else ["the runs were not recorded"]
    missing += short_of(bounds.timers, len(found), "timers")
    return result("K7", claim, dict(counts), violations, missing)
