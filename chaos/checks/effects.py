"""K2: the world was changed once for each effect that a run asked for.

The words are those of Jepsen's set checker: of what was *attempted*, `ok` is what the run was told of, `recovered` what
was in doubt and is there, `lost` what a run was told of and is not there, `unexpected` what nobody asked for.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from chaos.checks.reexecution import completions
from chaos.history import TERMINAL, Effect, History, Workflow
from chaos.verdict import CheckResult, result


def effects_applied_once(history: History) -> CheckResult:
    """Invalid where an effect was applied twice under whatever keys, is lost, or belongs to no operation of its run.

    A run refunds, notes, asks for approval and notifies at most once each: two applied entries of one kind for one
    run are one logical effect that was applied twice. Every completed run notifies its customer. An effect's key is
    that of the operation that makes it. Of a run whose history was tampered with, only what was applied twice counts.
    """
    if history.effects is None:
        return result("K2", _CLAIM, {}, [], ["the payments ledger was not read"])
    mine = {operation.run_id for operation in history.operations}
    by_key: dict[str, list[Effect]] = defaultdict(list)
    applied: dict[tuple[str, str], list[Effect]] = defaultdict(list)
    counts: Counter[str] = Counter(dict.fromkeys(_COUNTED, 0))
    for effect in sorted(history.effects, key=lambda one: one.seq):
        if effect.run_id not in mine:
            continue
        by_key[effect.key].append(effect)
        if effect.outcome == "applied":
            counts["applied"] += 1
            applied[effect.run_id, effect.kind].append(effect)
        else:
            counts["duplicate-attempted" if effect.outcome == "duplicate" else effect.outcome] += 1
    violations: list[str] = []
    for (run_id, kind), entries in applied.items():
        if len(entries) > 1:
            counts["duplicate-applied"] += len(entries) - 1
            lines = ", ".join(f"ledger {entry.seq} ({entry.key})" for entry in entries)
            violations.append(f"{run_id}: {kind} applied {len(entries)} times: {lines}")
    missing = [] if history.workflows is not None else ["the runs were not recorded"]
    for workflow in history.workflows or []:
        if workflow.run_id in mine - history.tampered:
            violations += _of_run(workflow, applied, by_key, counts)
    return result("K2", _CLAIM, dict(counts), violations, missing)


_CLAIM = "no effect is applied twice, none is lost, none is nobody's"
_MADE_BY = {
    "request_approval": "approvals",
    "add_note": "notes",
    "issue_refund": "refunds",
    "notify_customer": "notifications",
}
"""The tools of the refund desk that change the world, and how."""
_COUNTED = ("applied", "ok", "recovered", "lost", "unexpected", "duplicate-attempted", "duplicate-applied")


def _of_run(
    workflow: Workflow,
    applied: dict[tuple[str, str], list[Effect]],
    by_key: dict[str, list[Effect]],
    counts: Counter[str],
) -> list[str]:
    run_id, violations = workflow.run_id, list[str]()
    if workflow.status == "completed":
        for kind in _promised(workflow.output):
            if (run_id, kind) not in applied:
                counts["lost"] += 1
                violations.append(f"{run_id}: completed, and the ledger has no {kind}")
    if workflow.history is None or workflow.status not in TERMINAL:
        return violations
    done = completions(workflow)
    kinds = {item.ordinal: _MADE_BY.get(item.name or "") for item in workflow.history if item.ordinal is not None}
    for ordinal in done:
        kind, key = kinds.get(ordinal), f"{run_id}:{ordinal}"
        if kind and (run_id, kind) not in applied and kind not in _promised(workflow.output):
            counts["lost"] += 1
            violations.append(f"{key}: completed, and the ledger has no {kind}")
    issued = {f"{run_id}:{item.ordinal}" for item in workflow.history if item.ordinal is not None}
    for (owner, kind), entries in applied.items():
        if owner != run_id:
            continue
        for entry in entries:
            ordinal = int(number) if (number := entry.key.rpartition(":")[2]).isdigit() else None
            if entry.key not in issued:
                counts["unexpected"] += 1
                if len(entries) == 1:
                    violations.append(f"{run_id}: {kind} applied under {entry.key}, which is no operation of the run")
            elif ordinal in done:
                counts["recovered" if len(by_key[entry.key]) > 1 else "ok"] += 1
    return violations


def _promised(output: object) -> list[str]:
    """The effects that a completed run's decision says were made."""
    decision: object = output.get("output") if isinstance(output, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    refunded = isinstance(decision, dict) and decision.get("outcome") == "refunded"  # pyright: ignore[reportUnknownMemberType]
    return ["notifications", "refunds"] if refunded else ["notifications"]
