"""What the experiment itself claims, such as that the active region stays where it is."""

from __future__ import annotations

from chaos.history import History
from chaos.verdict import CheckResult, result


def claims_hold(history: History) -> CheckResult | None:
    """Invalid where a claim did not hold, unknown where nobody could tell."""
    if not history.claims:
        return None
    violations = [f"{one.claim}: {one.detail}" for one in history.claims if one.held is False]
    missing = [f"{one.claim}: {one.detail}" for one in history.claims if one.held is None]
    counts = {"claims": len(history.claims), "held": sum(one.held is True for one in history.claims)}
    return result("C", "what the experiment claims held", counts, violations, missing)
