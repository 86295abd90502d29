"""K1: every accepted start reaches a terminal state."""

from __future__ import annotations

from chaos.history import History
from chaos.verdict import CheckResult, result

TERMINAL = frozenset({"completed", "failed", "terminated"})


def accepted_starts_end(history: History) -> CheckResult:
    """Invalid where a run that was acknowledged is lost, or has not ended when the experiment gave up waiting."""
    found = {workflow.run_id: workflow.status for workflow in history.workflows or []}
    violations: list[str] = []
    missing = [] if history.workflows is not None else ["the runs were not recorded"]
    for operation in history.accepted if not missing else []:
        run_id = operation.run_id
        if run_id not in found:
            violations.append(f"{run_id}: accepted by region {operation.region}, and nobody knows it")
        elif found[run_id] is None:
            missing.append(f"{run_id}: its state could not be read")
        elif found[run_id] not in TERMINAL:
            violations.append(f"{run_id}: still {found[run_id]}")
    ended = sum(found.get(operation.run_id) in TERMINAL for operation in history.accepted)
    counts = {"accepted": len(history.accepted), "ended": ended}
    return result("K1", "every accepted start reaches a terminal state", counts, violations, missing)
