"""K6: the code does what the recorded histories say, in a process that knows nothing of them."""

from __future__ import annotations

from chaos.history import History
from chaos.verdict import CheckResult, result, short_of


def histories_replay(history: History) -> CheckResult | None:
    """Invalid where a run's exported history, replayed with cold caches, asks for something else."""
    promised = history.bounds.replays
    if not promised and not history.replays:
        return None
    replays = history.replays or []
    violations = [f"{one.run_id}: {' '.join(one.difference.split())[:300]}" for one in replays if one.same is False]
    missing = [f"{one.run_id}: not replayed: {one.difference}" for one in replays if one.same is None]
    missing += short_of(promised, len(replays), "replays")
    counts = {
        "replayed": sum(one.same is not None for one in replays),
        "actions": sum(one.actions for one in replays),
        "different": len(violations),
    }
    return result("K6", "exported histories replay to the same actions", counts, violations, missing)
