"""K12: what the other checks stand on: load before and after the fault, a fault in force, clocks that agree."""

from __future__ import annotations

from chaos.checks.writers import executions
from chaos.history import History
from chaos.verdict import CheckResult, result


def assumptions_hold(history: History) -> CheckResult:
    """Unknown where the load, the fault or the clocks were not what the experiment promised: nothing was proven."""
    missing: list[str] = []
    bounds, at = history.bounds, history.fault_at
    if at is None:
        missing.append("no fault was injected")
    missing += [
        f"{fault.name} on {fault.target}: no evidence that it was in force"
        for fault in history.faults
        if not fault.proven
    ]
    runs = history.in_flight_at(at) if at else None
    in_flight = len(runs) if runs is not None else None
    if in_flight is None:
        missing.append("nobody counted the runs in flight at the fault")
    elif in_flight < bounds.minimum_in_flight:
        missing.append(
            f"{in_flight} runs were in flight at the fault, at least {bounds.minimum_in_flight} were promised"
        )
    doubt = history.in_doubt_at(at) if at else None
    if len(doubt or []) < bounds.minimum_in_doubt:
        missing.append("no effect was applied and unanswered at the fault, so none could have been applied twice")
    last = max((fault.at for fault in history.faults), default=0.0)
    before = sum(one.answered_at < at for one in history.accepted) if at else 0
    after = sum(one.invoked_at > last for one in history.accepted) if at else 0
    for when, found, promised in (("before", before, bounds.minimum_before), ("after", after, bounds.minimum_after)):
        if found < promised:
            missing.append(f"{found or 'no'} starts were accepted {when} the fault, at least {promised} promised")
    worst, where = _clocks(history)
    if worst > bounds.clock_seconds:
        missing.append(
            f"{where}: the clocks disagree by {worst:.3f} s, at most {bounds.clock_seconds:g} s was promised"
        )
    counts = {
        "in-flight": in_flight or 0,
        "effects-in-doubt": len(doubt or []),
        "accepted-before": before,
        "accepted-after": after,
        "clocks-ms": round(worst * 1000),
    }
    return result("K12", "the load, the fault and the clocks were as promised", counts, [], missing)


def _clocks(history: History) -> tuple[float, str]:
    """By how much, and where most, the parts' clocks disagree: something was seen before what brought it about.

    A client's start comes before its workflow, an operation before its execution, and its effect in between.
    """
    asked = {one.run_id: one.invoked_at for one in reversed(history.operations)}
    wrong: list[tuple[float, str]] = [(0.0, "")]
    scheduled: dict[tuple[str, int], float] = {}
    for workflow in history.workflows or []:
        for item in workflow.history or []:
            if item.type == "executionStarted" and workflow.run_id in asked:
                wrong.append((asked[workflow.run_id] - item.at, workflow.run_id))
            # A turn that a fault broke off is repeated, later than what it asked for the first time was executed.
            if item.ordinal is not None and item.at < (history.fault_at or 0.0):
                scheduled.setdefault((workflow.run_id, item.ordinal), item.at)
    spans: dict[str, tuple[float, float]] = {}
    # The turn that asked for the first execution may have been lost and repeated, so the last one counts.
    last: dict[tuple[str, int], float] = {}
    for one in executions(history):
        key = f"{one.run_id}:{one.ordinal}"
        last[one.run_id, one.ordinal] = one.began
        began, ended = spans.get(key, (one.began, one.ended))
        spans[key] = min(began, one.began), max(ended, one.ended)
    wrong += [(at - last.get(of, at), f"{of[0]}:{of[1]}") for of, at in scheduled.items()]
    for effect in history.effects or []:
        if effect.key in spans:
            began, ended = spans[effect.key]
            wrong.append((max(began - effect.at, effect.at - ended), effect.key))
    return max(wrong)
