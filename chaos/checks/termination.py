"""K1: every accepted start reaches a terminal state, and what was accepted stays accepted."""

from __future__ import annotations

from collections import defaultdict

from chaos.history import TERMINAL, ClientOperation, History
from chaos.verdict import CheckResult, result


def accepted_starts_end(history: History) -> CheckResult:
    """Invalid where a run that was acknowledged is lost, has not ended when the experiment gave up, or changed.

    For its clients the start of a run is a register that is written once: after it was acknowledged, the same start
    is acknowledged again, and another one under the same id is refused.
    """
    found = {workflow.run_id: workflow.status for workflow in history.workflows or []}
    accepted = {operation.run_id: operation for operation in history.accepted}
    violations = _written_twice(history)
    missing = [] if history.workflows is not None else ["the runs were not recorded"]
    for run_id, operation in accepted.items() if not missing else []:
        if run_id not in found:
            violations.append(f"{run_id}: accepted by region {operation.region}, and nobody knows it")
        elif found[run_id] is None:
            missing.append(f"{run_id}: its state could not be read")
        elif found[run_id] not in TERMINAL:
            violations.append(f"{run_id}: still {found[run_id]}")
    ended = sum(found.get(run_id) in TERMINAL for run_id in accepted)
    counts = {"accepted": len(accepted), "ended": ended}
    return result("K1", "every accepted start reaches a terminal state", counts, violations, missing)


def _written_twice(history: History) -> list[str]:
    """Where no order of a run's starts explains the answers: linear in time, for the register is written once."""
    starts: dict[str, list[ClientOperation]] = defaultdict(list)
    for operation in history.operations:
        starts[operation.run_id].append(operation)
    violations: list[str] = []
    for run_id, operations in starts.items():
        accepted = [one for one in operations if one.outcome == "ok"]
        if any(one.ticket != accepted[0].ticket for one in accepted[1:]):
            violations.append(f"{run_id}: accepted with two different inputs")
            continue
        since = min((one.answered_at for one in accepted), default=float("inf"))
        for one in operations:
            if one.outcome == "refused" and one.invoked_at > since and one.ticket == accepted[0].ticket:
                violations.append(f"{run_id}: accepted, and refused by region {one.region} afterwards ({one.detail})")
    return violations
