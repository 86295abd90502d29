"""K12: what the other checks stand on: load before and after the fault, and a fault that was in force."""

from __future__ import annotations

from chaos.history import History
from chaos.verdict import CheckResult, result


def assumptions_hold(history: History) -> CheckResult:
    """Unknown where the load or the fault was not what the experiment promised: then nothing was proven."""
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
    before = sum(one.answered_at < at for one in history.accepted) if at else 0
    after = sum(one.invoked_at > at for one in history.accepted) if at else 0
    if not before:
        missing.append("no start was accepted before the fault")
    if not after:
        missing.append("no start was accepted after the fault")
    for attempt in history.attempts or []:
        if at and abs(attempt.at - at) > 86400:
            missing.append(f"{attempt.run_id}: an attempt is a day from the fault; the clocks disagree")
            break
    counts = {
        "in-flight": in_flight or 0,
        "effects-in-doubt": len(doubt or []),
        "accepted-before": before,
        "accepted-after": after,
    }
    return result("K12", "the load and the fault were as promised", counts, [], missing)
