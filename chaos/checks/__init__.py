"""The checkers: pure functions from a recorded history to an answer with its witness."""

from collections.abc import Callable

from chaos.checks.assumptions import assumptions_hold
from chaos.checks.claims import claims_hold
from chaos.checks.effects import effects_applied_once
from chaos.checks.outcomes import outcomes_equal_the_oracle
from chaos.checks.reexecution import completed_operations_stay_completed
from chaos.checks.termination import accepted_starts_end
from chaos.checks.writers import one_writer
from chaos.history import History
from chaos.verdict import CheckResult

CHECKS: tuple[Callable[[History], CheckResult], ...] = (
    accepted_starts_end,
    effects_applied_once,
    one_writer,
    completed_operations_stay_completed,
    outcomes_equal_the_oracle,
    assumptions_hold,
)


def judge(history: History) -> list[CheckResult]:
    """Every checker's answer, and that on the experiment's own claims where it has any."""
    own = [claims_hold(history)] if history.claims else []
    return [check(history) for check in CHECKS] + own


__all__ = ["CHECKS", "judge"]
