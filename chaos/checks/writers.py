"""K4: one writer: no operation is executed by two workers at once, and no epoch has two active regions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations

from chaos.checks.roles import begun_epochs, contradictions, late_acknowledgements, stale_claims, unsampled
from chaos.history import Attempt, History
from chaos.verdict import CheckResult, result

WAKE_SECONDS = 10.0
"""How long a region that was cut off may take to see that its epoch is over."""


@dataclass(frozen=True)
class Execution:
    """The interval in which one process executed one operation. Open where its end is not known."""

    run_id: str
    ordinal: int
    region: str
    worker: str
    pid: int
    epoch: int
    began: float
    ended: float
    kind: str = ""
    attempt: int = 1

    def __str__(self) -> str:
        return f"{self.region}/{self.worker} (pid {self.pid}, epoch {self.epoch})"


def executions(history: History) -> list[Execution]:
    """Every execution; one that was never ended ends when its process was killed."""
    killed = {pid: fault.at for fault in history.faults for pid in fault.killed}
    ends: dict[tuple[int, str, int, int], list[float]] = defaultdict(list)
    for attempt in history.attempts or []:
        if attempt.phase == "ended":
            ends[_key(attempt)].append(attempt.at)
    found: list[Execution] = []
    for attempt in sorted(history.attempts or [], key=lambda one: one.at):
        if attempt.phase != "started" or attempt.joined:
            continue
        later = [at for at in ends[_key(attempt)] if at >= attempt.at]
        ended = min(later) if later else killed.get(attempt.pid, float("inf"))
        found.append(
            Execution(
                attempt.run_id,
                attempt.ordinal,
                attempt.region,
                attempt.worker,
                attempt.pid,
                attempt.epoch,
                attempt.at,
                ended,
                attempt.kind,
                attempt.attempt,
            )
        )
    return found


def is_zombie(execution: Execution, history: History) -> bool:
    """Whether its epoch was over before it ended, and its region could not be told: nobody hears what it does.

    Its results can't be committed, and its effects are refused for their epoch; that they are is checked.
    """
    untold = any(
        (execution.pid in fault.frozen or execution.region in fault.cut_off)
        and execution.ended > fault.at
        and execution.began < (fault.until or float("inf")) + WAKE_SECONDS
        for fault in history.faults
    )
    return untold and any(
        epoch > execution.epoch and at < execution.ended for (epoch, _), at in begun_epochs(history).items()
    )


def one_writer(history: History) -> CheckResult:
    """Invalid where two processes' executions of one operation overlap, or where two regions were active at once.

    That is: they worked, or said that they were active, in one epoch; were primaries on one timeline; one
    acknowledged a start when the other had begun its epoch; or an effect of an epoch that was over was applied. What
    a region does that could not be told that its epoch is over is a zombie's.
    """
    claim = "one operation has one writer at a time, one epoch one active region"
    if history.attempts is None:
        return result("K4", claim, {}, [], ["no worker's attempts were recorded"])
    by_operation: dict[tuple[str, int], list[Execution]] = defaultdict(list)
    regions: dict[int, set[str]] = defaultdict(set)
    zombies = 0
    for execution in executions(history):
        regions[execution.epoch].add(execution.region)
        if is_zombie(execution, history):
            zombies += 1
        else:
            by_operation[execution.run_id, execution.ordinal].append(execution)
    violations: list[str] = []
    for (run_id, ordinal), entries in by_operation.items():
        for first, second in combinations(entries, 2):
            if first.pid != second.pid and second.began < first.ended:
                violations.append(f"{run_id}:{ordinal}: executed by {first} and {second} at once")
    for epoch, names in regions.items():
        if len(names) > 1:
            violations.append(f"epoch {epoch}: executed in regions {' and '.join(sorted(names))}")
    violations += late_acknowledgements(history) + contradictions(history) + _stale_effects(history)
    counts = {
        "executions": sum(map(len, by_operation.values())) + zombies,
        "zombie-executions": zombies,
        "epochs": len(regions),
        "role-samples": len(history.roles or []),
        "stale-claims": stale_claims(history),
    }
    missing = ([] if by_operation else ["no execution was recorded"]) + unsampled(history)
    return result("K4", claim, counts, violations, missing)


def _stale_effects(history: History) -> list[str]:
    """Effects that were applied though the ledger had seen a later epoch."""
    mine = {operation.run_id for operation in history.operations}
    newest, found = 0, list[str]()
    for effect in sorted(history.effects or [], key=lambda one: one.seq):
        if effect.outcome == "applied" and effect.epoch < newest and effect.run_id in mine:
            found.append(
                f"{effect.key}: {effect.kind} of epoch {effect.epoch} applied when epoch {newest} had begun "
                f"(ledger {effect.seq})"
            )
        newest = max(newest, effect.epoch)
    return found


def _key(attempt: Attempt) -> tuple[int, str, int, int]:
    return attempt.pid, attempt.run_id, attempt.ordinal, attempt.attempt
