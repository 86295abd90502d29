"""K3: what a client saw acknowledged before a fault is a prefix of the history after it."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.checks.reexecution import completions
from chaos.history import TERMINAL, History, Observation, Workflow
from chaos.verdict import CheckResult, result


@dataclass(frozen=True)
class Loss:
    """Something that a client was told, and that is not so any more. Without an ordinal it is the run's start."""

    run_id: str
    ordinal: int | None
    region: str
    at: float
    tokens: int = 0

    def __str__(self) -> str:
        if self.ordinal is None:
            return f"{self.run_id}: its start was acknowledged by region {self.region}, and nobody knows the run"
        return f"{self.run_id}:{self.ordinal}: told by region {self.region} as completed, and not in the history"


def losses(history: History) -> list[Loss] | None:
    """Everything acknowledged that is lost, oldest first; None where the runs were not recorded."""
    if history.workflows is None:
        return None
    known = {workflow.run_id: workflow for workflow in history.workflows}
    found = [Loss(one.run_id, None, one.region, one.answered_at) for one in history.accepted if one.run_id not in known]
    seen: set[tuple[str, int]] = set()
    for told in sorted(history.observations or [], key=lambda one: one.at):
        workflow = known.get(told.run_id)
        if workflow is None or workflow.history is None or told.run_id in history.tampered:
            continue
        for ordinal in sorted(set(told.ordinals) - completions(workflow).keys()):
            if (told.run_id, ordinal) not in seen:
                seen.add((told.run_id, ordinal))
                found.append(Loss(told.run_id, ordinal, told.region, told.at, told.tokens.get(ordinal, 0)))
    return sorted(found, key=lambda loss: loss.at)


def acknowledged_is_kept(history: History) -> CheckResult:
    """Invalid where an acknowledged start, operation or end is gone, or came in another order than it was told."""
    claim = "what was acknowledged is a prefix of what is"
    lost = losses(history)
    if lost is None:
        return result("K3", claim, {}, [], ["the runs were not recorded"])
    known = {workflow.run_id: workflow for workflow in history.workflows or []}
    violations, missing = [str(loss) for loss in lost], _unseen(history)
    for told in history.observations or []:
        workflow = known.get(told.run_id)
        if told.run_id in history.tampered:
            continue
        if workflow is None:
            violations.append(f"{told.run_id}: told by region {told.region} as {told.status}, and nobody knows it")
        elif workflow.history is None:
            missing.append(f"{told.run_id}: its history could not be read")
        else:
            violations += _differences(told, workflow)
    counts = {
        "starts": len(history.accepted),
        "observations": len(history.observations or []),
        "operations": len({(one.run_id, n) for one in history.observations or [] for n in one.ordinals}),
        "lost": len(lost),
        "lost-tokens": sum(loss.tokens for loss in lost),
    }
    return result("K3", claim, counts, list(dict.fromkeys(violations)), list(dict.fromkeys(missing)))


def _unseen(history: History) -> list[str]:
    if not history.bounds.observations:
        return []
    if not history.observations:
        return ["observations were promised, and no client looked at a run"]
    at = history.fault_at
    before = [one for one in history.observations if at is not None and one.at < at and one.ordinals]
    return [] if before else ["no client saw a completed operation before the fault"]


def _differences(told: Observation, workflow: Workflow) -> list[str]:
    now = list(completions(workflow))
    found: list[str] = []
    if told.status in TERMINAL and told.status != workflow.status:
        found.append(f"{told.run_id}: told by region {told.region} as {told.status}, and it is {workflow.status}")
    kept = [ordinal for ordinal in told.ordinals if ordinal in now]
    for mine, theirs in zip(kept, now, strict=False):
        if mine != theirs:
            found.append(f"{told.run_id}:{mine}: told by region {told.region} before operation {theirs}, and is after")
            break
    return found
