"""K9: no run is open without progress for longer than a bound."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from chaos.checks.timers import alarms
from chaos.history import History, HistoryItem, Workflow
from chaos.verdict import CheckResult, result

Interval = tuple[float, float]


def no_run_is_stuck(history: History) -> CheckResult:
    """Invalid where nothing happened to an open run for too long, while it waited for no timer and no person.

    Progress is an event of its workflow, or a worker at one of its operations. What a fault took away counts for
    the fault.
    """
    claim = f"no run is without progress for more than {history.bounds.stuck_seconds:g} s"
    if history.workflows is None:
        return result("K9", claim, {}, [], ["the runs were not recorded"])
    worked: dict[str, list[float]] = defaultdict(list)
    for attempt in history.attempts or []:
        worked[attempt.run_id].append(attempt.at)
    outages = [(fault.at, fault.at + history.outage(fault)) for fault in history.faults]
    violations: list[str] = []
    missing: list[str] = []
    longest = 0.0
    for workflow in history.workflows:
        if workflow.history is None:
            missing.append(f"{workflow.run_id}: its history could not be read")
            continue
        excused = [*outages, *_waits(workflow)]
        for begin, end, after in _pauses(workflow, worked[workflow.run_id], history.recorded_at):
            pause = end - begin - _covered(begin, end, excused)
            longest = max(longest, pause)
            if pause > history.bounds.stuck_seconds:
                violations.append(f"{workflow.run_id}:{after}: no progress for {pause:.1f} s afterwards")
    counts = {"runs": len(history.workflows), "longest-ms": round(longest * 1000), "stuck": len(violations)}
    return result("K9", claim, counts, violations, missing)


def _pauses(workflow: Workflow, worked: list[float], until: float | None) -> list[tuple[float, float, int]]:
    """Each time without progress, with the last operation that had been issued."""
    items = workflow.history or []
    ended = any(item.type == "executionCompleted" for item in items)
    marks = sorted([(item.at, item.ordinal or 0) for item in items] + [(at, 0) for at in worked])
    if until is not None and not ended and marks:
        marks.append((max(until, marks[-1][0]), 0))
    found: list[tuple[float, float, int]] = []
    last = 0
    for (begin, ordinal), (end, _) in pairwise(marks):
        last = ordinal or last
        found.append((begin, end, last))
    return found


def _waits(workflow: Workflow) -> list[Interval]:
    """When the run waited for a timer, or for what came from outside in the end."""
    found = [(alarm.created, alarm.due) for alarm in alarms(workflow)]
    before: HistoryItem | None = None
    for item in workflow.history or []:
        if item.type == "eventRaised" and before is not None and (item.name or "").casefold() != "recover":
            found.append((before.at, item.at))
        if item.type not in ("eventRaised", "workflowStarted"):
            before = item
    return found


def _covered(begin: float, end: float, intervals: list[Interval]) -> float:
    """How much of a time the intervals cover together."""
    total, reached = 0.0, begin
    for first, last in sorted(intervals):
        first, last = max(first, reached), min(last, end)
        if last > first:
            total, reached = total + last - first, last
    return total
