"""K4: one writer: no operation is executed by two workers at once, and no epoch has two active regions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations

from chaos.history import Attempt, History
from chaos.verdict import CheckResult, result


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
            )
        )
    return found


def one_writer(history: History) -> CheckResult:
    """Invalid where two processes' executions of one operation overlap, or two regions worked in one epoch."""
    claim = "one operation has one writer at a time, one epoch one active region"
    if history.attempts is None:
        return result("K4", claim, {}, [], ["no worker's attempts were recorded"])
    by_operation: dict[tuple[str, int], list[Execution]] = defaultdict(list)
    regions: dict[int, set[str]] = defaultdict(set)
    for execution in executions(history):
        by_operation[execution.run_id, execution.ordinal].append(execution)
        regions[execution.epoch].add(execution.region)
    violations: list[str] = []
    for (run_id, ordinal), entries in by_operation.items():
        for first, second in combinations(entries, 2):
            if first.pid != second.pid and second.began < first.ended:
                violations.append(f"{run_id}:{ordinal}: executed by {first} and {second} at once")
    for epoch, names in regions.items():
        if len(names) > 1:
            violations.append(f"epoch {epoch}: executed in regions {' and '.join(sorted(names))}")
    counts = {"executions": sum(map(len, by_operation.values())), "epochs": len(regions)}
    missing = [] if by_operation else ["no execution was recorded"]
    return result("K4", claim, counts, violations, missing)


def _key(attempt: Attempt) -> tuple[int, str, int, int]:
    return attempt.pid, attempt.run_id, attempt.ordinal, attempt.attempt
