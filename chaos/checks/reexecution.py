"""K5: a completed operation is never executed again."""

from __future__ import annotations

from chaos.checks.writers import executions, is_zombie
from chaos.history import History, Workflow
from chaos.verdict import CheckResult, result

CLOCK_SECONDS = 0.002
"""Two readings of this machine's clock may differ by the resolution of what was written down."""


def completions(workflow: Workflow) -> dict[int, float]:
    """When each operation's result was in the history, by ordinal. A failed attempt is no completion."""
    ordinals = {item.task_id: item.ordinal for item in workflow.history or [] if item.ordinal is not None}
    found: dict[int, float] = {}
    for item in workflow.history or []:
        ordinal = ordinals.get(item.task_id)
        if item.type == "taskCompleted" and item.ok and ordinal is not None:
            found[ordinal] = min(item.at, found.get(ordinal, item.at))
    return found


def committed(workflow: Workflow) -> dict[int, float]:
    """By when the history had each operation's result for certain, by ordinal.

    The engine notes when it heard of a result, and starts what the turn asks for before it saves the turn: where a
    sidecar is frozen in between, the result is in no history for as long. The next turn begins with what is saved.
    """
    found, items = completions(workflow), workflow.history or []
    turns = [(number, item.at) for number, item in enumerate(items) if item.type == "workflowStarted"]
    if not turns:
        return found
    ordinals = {item.task_id: item.ordinal for item in items if item.ordinal is not None}
    for number, item in enumerate(items):
        ordinal = ordinals.get(item.task_id)
        if item.type == "taskCompleted" and item.ok and ordinal is not None:
            found[ordinal] = max(item.at, min((at for turn, at in turns if turn > number), default=float("inf")))
    return found


def completed_operations_stay_completed(history: History) -> CheckResult:
    """Invalid where an execution began after the workflow's history had the operation's result.

    A region that could not be told that its epoch is over may begin what another has completed: see `is_zombie`.
    """
    claim = "a completed operation is never executed again"
    missing: list[str] = []
    if history.attempts is None:
        missing.append("no worker's attempts were recorded")
    if history.workflows is None:
        missing.append("the runs were not recorded")
    done = {workflow.run_id: committed(workflow) for workflow in history.workflows or []}
    missing += [
        f"{one.run_id}: its history could not be read" for one in history.workflows or [] if one.history is None
    ]
    violations: list[str] = []
    seen: set[tuple[str, int]] = set()
    again_in_flight = zombies = 0
    for execution in executions(history):
        key = execution.run_id, execution.ordinal
        completed = done.get(execution.run_id, {}).get(execution.ordinal)
        if completed is not None and execution.began > completed + CLOCK_SECONDS and is_zombie(execution, history):
            zombies += 1
        elif completed is not None and execution.began > completed + CLOCK_SECONDS:
            late = execution.began - completed
            violations.append(f"{key[0]}:{key[1]}: executed by {execution} {late:.3f} s after it had completed")
        elif key in seen:
            again_in_flight += 1
        seen.add(key)
    if history.attempts is not None:
        unseen = sorted({(run_id, ordinal) for run_id, ordinals in done.items() for ordinal in ordinals} - seen)
        missing += [f"{one[0]}:{one[1]}: completed, and no worker wrote that it was executed" for one in unseen]
    counts = {
        "operations": len(seen),
        "executed-again-in-flight": again_in_flight,
        "executed-again-completed": len(violations),
        "zombie-executions": zombies,
    }
    return result("K5", claim, counts, violations, missing)
