"""K2: the world was changed once for each effect that a run asked for."""

from __future__ import annotations

from collections import Counter, defaultdict

from chaos.history import Effect, History
from chaos.verdict import CheckResult, result


def effects_applied_once(history: History) -> CheckResult:
    """Invalid where a run's effect was applied twice, under whatever keys, or a completed run's effect is missing.

    A run refunds, notes, asks for approval and notifies at most once each: two applied entries of one kind for one
    run are one logical effect that was applied twice. Every completed run notifies its customer.
    """
    if history.effects is None:
        return result("K2", _CLAIM, {}, [], ["the payments ledger was not read"])
    mine = {operation.run_id for operation in history.operations}
    applied: dict[tuple[str, str], list[Effect]] = defaultdict(list)
    counts: Counter[str] = Counter({"applied": 0, "duplicate-attempted": 0, "duplicate-applied": 0, "lost": 0})
    violations: list[str] = []
    for effect in history.effects:
        if effect.run_id not in mine:
            continue
        if effect.outcome == "applied":
            counts["applied"] += 1
            applied[effect.run_id, effect.kind].append(effect)
        else:
            counts["duplicate-attempted" if effect.outcome == "duplicate" else effect.outcome] += 1
    for (run_id, kind), entries in applied.items():
        if len(entries) > 1:
            counts["duplicate-applied"] += len(entries) - 1
            lines = ", ".join(f"ledger {entry.seq} ({entry.key})" for entry in entries)
            violations.append(f"{run_id}: {kind} applied {len(entries)} times: {lines}")
    missing = [] if history.workflows is not None else ["the runs were not recorded"]
    for workflow in history.workflows or []:
        if workflow.status == "completed" and workflow.run_id in mine:
            for kind in _promised(workflow.output):
                if (workflow.run_id, kind) not in applied:
                    counts["lost"] += 1
                    violations.append(f"{workflow.run_id}: completed, and the ledger has no {kind}")
    return result("K2", _CLAIM, dict(counts), violations, missing)


_CLAIM = "no effect is applied twice, and none of a completed run is lost"


def _promised(output: object) -> list[str]:
    """The effects that a completed run's decision says were made."""
    decision: object = output.get("output") if isinstance(output, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    refunded = isinstance(decision, dict) and decision.get("outcome") == "refunded"  # pyright: ignore[reportUnknownMemberType]
    return ["notifications", "refunds"] if refunded else ["notifications"]
