"""The checkers: pure functions from a recorded history to an answer with its witness.

A checker answers None where it does not apply: the experiment promised no evidence for it (`Bounds`), and there is
none. Evidence that was promised and is missing makes the answer *unknown*, and evidence that is there is judged,
promised or not. So an answer *valid* always stands on something that was seen.
"""

from collections.abc import Callable

from chaos.checks.acknowledged import acknowledged_is_kept
from chaos.checks.assumptions import assumptions_hold
from chaos.checks.claims import claims_hold
from chaos.checks.cost import cost_is_bounded
from chaos.checks.effects import effects_applied_once
from chaos.checks.identity import only_who_may_was_heard
from chaos.checks.outcomes import outcomes_equal_the_oracle
from chaos.checks.progress import no_run_is_stuck
from chaos.checks.reexecution import completed_operations_stay_completed
from chaos.checks.replaying import histories_replay
from chaos.checks.signals import signals_applied_once
from chaos.checks.termination import accepted_starts_end
from chaos.checks.timers import timers_fire_in_time
from chaos.checks.writers import one_writer
from chaos.history import History
from chaos.verdict import CheckResult

Checker = Callable[[History], CheckResult | None]

CHECKS: dict[str, Checker] = {
    "K1": accepted_starts_end,
    "K2": effects_applied_once,
    "K3": acknowledged_is_kept,
    "K4": one_writer,
    "K5": completed_operations_stay_completed,
    "K6": histories_replay,
    "K7": timers_fire_in_time,
    "K8": signals_applied_once,
    "K9": no_run_is_stuck,
    "K10": outcomes_equal_the_oracle,
    "K11": only_who_may_was_heard,
    "K12": assumptions_hold,
    "K13": cost_is_bounded,
    "C": claims_hold,
}


def judge(history: History) -> list[CheckResult]:
    """The answer of every checker that applies."""
    return [found for check in CHECKS.values() if (found := check(history)) is not None]


__all__ = ["CHECKS", "Checker", "judge"]
