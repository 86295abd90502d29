"""K13: what a fault cost: model requests and tokens that were spent again."""

from __future__ import annotations

from collections import Counter

from chaos.checks.writers import executions
from chaos.history import History, Workflow
from chaos.verdict import CheckResult, result


def tokens_of(workflow: Workflow) -> dict[int, int]:
    """What each model request of a run took, by ordinal."""
    ordinals = {item.task_id: item.ordinal for item in workflow.history or [] if item.ordinal is not None}
    return {
        ordinal: item.tokens
        for item in workflow.history or []
        if item.tokens is not None and (ordinal := ordinals.get(item.task_id)) is not None
    }


def spent_again(history: History) -> Counter[tuple[str, int]]:
    """How often each model request was executed again: the same attempt, not one that an error asked for."""
    times = Counter((one.run_id, one.ordinal, one.attempt) for one in executions(history) if one.kind == "model")
    again: Counter[tuple[str, int]] = Counter()
    for (run_id, ordinal, _), count in times.items():
        if count > 1:
            again[run_id, ordinal] += count - 1
    return again


def cost_is_bounded(history: History) -> CheckResult:
    """Invalid where a run paid for more model requests again than its faults can explain."""
    allowed = history.bounds.model_calls_again * sum(fault.strikes for fault in history.faults)
    claim = f"a run pays for at most {allowed} model requests again"
    if history.attempts is None:
        return result("K13", claim, {}, [], ["no worker's attempts were recorded"])
    again = spent_again(history)
    tokens = {workflow.run_id: tokens_of(workflow) for workflow in history.workflows or []}
    of_run: Counter[str] = Counter()
    for (run_id, _), count in again.items():
        of_run[run_id] += count
    violations = [
        f"{run_id}:{min(ordinal for run, ordinal in again if run == run_id)}: {count} model requests were made again"
        for run_id, count in of_run.items()
        if count > allowed
    ]
    counts = {
        "model-requests": sum(one.kind == "model" for one in executions(history)),
        "again": again.total(),
        "tokens": sum(sum(one.values()) for one in tokens.values()),
        "tokens-again": sum(count * tokens.get(run_id, {}).get(n, 0) for (run_id, n), count in again.items()),
    }
    return result("K13", claim, counts, violations, [])
