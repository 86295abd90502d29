"""A history in which everything went right, to be changed by what went wrong."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

from refund_desk import Decision, Ticket
from refund_desk.oracle import decide
from refund_desk.tickets import bundled_tickets, read_tickets

from chaos.history import (
    AgentEvent,
    Attempt,
    Bounds,
    ClientOperation,
    Effect,
    Fault,
    History,
    HistoryItem,
    Workflow,
)

FAULT_AT = 1000.0
LOST_PID, WORKER_PID, OTHER_PID = 11, 21, 22
RUNS, OPERATIONS = 6, 5
IN_HAND = 3
"""The operation that every run had in hand at the fault; it was executed again in region b."""
EFFECT = 3


@cache
def tickets() -> list[Ticket]:
    return read_tickets(bundled_tickets()).tickets


async def remembered(ticket: Ticket) -> Decision:
    """The oracle's decision, made once for each ticket."""
    if ticket not in _decided:
        _decided[ticket] = await decide(ticket)
    return _decided[ticket]


def decision(number: int) -> dict[str, Any]:
    return asyncio.run(remembered(tickets()[number])).model_dump(mode="json")


_decided: dict[Ticket, Decision] = {}


def run_id(number: int) -> str:
    return f"run-{number:02}"


def attempt(run: str, ordinal: int, phase: str, at: float, **changes: Any) -> Attempt:
    before = at <= FAULT_AT
    made: dict[str, Any] = {
        "phase": phase,
        "run_id": run,
        "ordinal": ordinal,
        "kind": "tool",
        "name": "step",
        "attempt": 1,
        "at": at,
        "outcome": "ok" if phase == "ended" else None,
        "region": "a" if before else "b",
        "epoch": 1 if before else 2,
        "worker": "worker-1",
        "pid": LOST_PID if before else WORKER_PID,
    }
    return Attempt.model_validate(made | changes)


def effect(run: str, kind: str, ordinal: int, at: float, seq: int, **changes: Any) -> Effect:
    made: dict[str, Any] = {
        "seq": seq,
        "at": at,
        "key": f"{run}:{ordinal}",
        "kind": kind,
        "run_id": run,
        "region": "a" if at <= FAULT_AT else "b",
        "epoch": 1,
        "worker": "worker-1",
        "attempt": 1,
        "outcome": "applied",
    }
    return Effect.model_validate(made | changes)


def region_loss(runs: int = RUNS) -> History:
    """Region a is lost while each run has its third operation in hand, an effect; region b ends them all."""
    history = History(experiment="region-loss", bounds=Bounds(minimum_in_flight=runs, minimum_in_doubt=1))
    history.effects, history.attempts, history.workflows = [], [], []
    for number in range(runs):
        _add_run(history, number, FAULT_AT - 1)
    _add_run(history, runs, FAULT_AT + 10, in_flight=False)
    history.faults = [Fault(name="region-loss", target="region a", at=FAULT_AT, killed=[LOST_PID], proven=True)]
    told = [
        ("early-release", 3.5, {"decision": "released"}),
        ("promoted", 4.0, {}),
        ("activated", 4.3, {}),
        ("role-changed", 4.3, {"to": "active"}),
    ]
    history.events = [
        AgentEvent.model_validate({"region": "b", "at": FAULT_AT + at, "event": event, **members})
        for event, at, members in told
    ]
    return history


def _add_run(history: History, number: int, began: float, in_flight: bool = True) -> None:
    assert history.effects is not None
    assert history.attempts is not None
    assert history.workflows is not None
    run, ticket = run_id(number), tickets()[number]
    payload = ticket.model_dump(mode="json", exclude_none=True)
    history.operations.append(
        ClientOperation(
            run_id=run, ticket=payload, invoked_at=began - 0.02, answered_at=began - 0.01, outcome="ok", region="a"
        )
    )
    items = [HistoryItem(sequence=0, type="executionStarted", at=began)]
    at = began
    for ordinal in range(1, OPERATIONS + 1):
        lost = in_flight and ordinal == IN_HAND
        if lost:
            history.attempts.append(attempt(run, ordinal, "started", FAULT_AT - 0.1))
            history.effects.append(effect(run, "notifications", ordinal, FAULT_AT - 0.05, len(history.effects) + 1))
        items.append(HistoryItem(sequence=len(items), type="taskScheduled", at=at, task_id=ordinal, ordinal=ordinal))
        at = max(at + 0.1, FAULT_AT + 5) if lost else at + 0.1
        history.attempts += [attempt(run, ordinal, "started", at), attempt(run, ordinal, "ended", at + 0.05)]
        if ordinal == EFFECT:
            outcome = "duplicate" if lost else "applied"
            made = effect(run, "notifications", ordinal, at + 0.02, len(history.effects) + 1, outcome=outcome)
            history.effects.append(made)
        items.append(HistoryItem(sequence=len(items), type="taskCompleted", at=at + 0.06, task_id=ordinal, ok=True))
    decided = decision(number)
    if decided["outcome"] == "refunded":
        history.effects.append(effect(run, "refunds", OPERATIONS, at, len(history.effects) + 1))
    items.append(HistoryItem(sequence=len(items), type="executionCompleted", at=at + 0.1))
    history.workflows.append(Workflow(run_id=run, status="completed", output={"output": decided}, history=items))
