"""A history in which everything went right, to be changed by what went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import cache
from typing import Any

from refund_desk import Decision, Ticket
from refund_desk.oracle import decide
from refund_desk.tickets import bundled_tickets, read_tickets

from chaos.history import (
    AgentEvent,
    Attempt,
    Bounds,
    Claim,
    ClientOperation,
    Effect,
    Fault,
    History,
    HistoryItem,
    Observation,
    Proof,
    Replay,
    RoleSample,
    Signal,
    Workflow,
)

FAULT_AT = 1000.0
LOST_PID, WORKER_PID, OTHER_PID = 11, 21, 22
RUNS, OPERATIONS = 6, 5
IN_HAND = 3
"""The operation that every run had in hand at the fault; it was executed again in region b."""
EFFECT = 3
TIMER_RUN, SIGNAL_RUN = 0, 1
"""The runs that wait for a timer, and for an approval, at the fault."""
CALL = "call-4"
MODEL, TOKENS = (1, 4), 100
"""Which operations are model requests, and what each takes."""
SIGNER = "spiffe://public/ns/default/refund-desk"


@cache
def tickets() -> list[Ticket]:
    return read_tickets(bundled_tickets()).tickets


async def remembered(ticket: Ticket, *, released: bool = False) -> Decision:
    """The oracle's decision, made once for each ticket."""
    if (ticket, released) not in _decided:
        _decided[ticket, released] = await decide(ticket, released=released)
    return _decided[ticket, released]


def decision(number: int) -> dict[str, Any]:
    return asyncio.run(remembered(tickets()[number])).model_dump(mode="json")


_decided: dict[tuple[Ticket, bool], Decision] = {}


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
        "epoch": 1 if at <= FAULT_AT else 2,
        "worker": "worker-1",
        "attempt": 1,
        "outcome": "applied",
    }
    return Effect.model_validate(made | changes)


def region_loss(runs: int = RUNS) -> History:
    """Region a is lost while each run has its third operation in hand, an effect; region b ends them all.

    One run also waits for a timer at the fault, another for an approval, which is sent in between.
    """
    promised = Bounds(
        minimum_in_flight=runs,
        minimum_in_doubt=1,
        observations=True,
        roles=True,
        replays=runs + 1,
        proofs=runs + 1,
        timers=1,
        signals=1,
    )
    history = History(experiment="region-loss", bounds=promised, recorded_at=FAULT_AT + 30)
    history.effects, history.attempts, history.workflows = [], [], []
    for number in range(runs):
        _add_run(history, number, FAULT_AT - 1)
    _add_run(history, runs, FAULT_AT + 10, in_flight=False)
    history.faults = [Fault(name="region-loss", target="region a", at=FAULT_AT, killed=[LOST_PID], proven=True)]
    told = [
        ("early-release", 3.5, {"decision": "released"}),
        ("promoted", 4.0, {"epoch": 2}),
        ("activated", 4.3, {}),
        ("role-changed", 4.3, {"to": "active"}),
    ]
    history.events = [
        AgentEvent.model_validate({"region": "b", "at": FAULT_AT + at, "event": event, **members})
        for event, at, members in told
    ]
    in_order = sorted(history.effects, key=lambda one: one.at)
    history.effects = [one.model_copy(update={"seq": seq}) for seq, one in enumerate(in_order, start=1)]
    _observe(history)
    return history


def _observe(history: History) -> None:
    """What was asked for while it went on, and afterwards."""
    history.observations = [seen(run_id(number), FAULT_AT - 0.5, [1, 2]) for number in range(len(history.accepted) - 1)]
    history.observations += [
        seen(one.run_id, FAULT_AT + 20, range(1, OPERATIONS + 1), region="b", status="completed")
        for one in history.accepted
    ]
    history.roles = [
        role(region, FAULT_AT + at) for at in (-1.0, -0.5, 0.5, 2.0, 4.5, 6.0, 20.0) for region in ("a", "b")
    ]
    history.replays = [Replay(run_id=one.run_id, same=True, actions=7) for one in history.accepted]
    history.proofs = [Proof(run_id=one.run_id, proven=True, events=20, signers=[SIGNER]) for one in history.accepted]
    history.claims = [Claim(claim="the other region is active", at=FAULT_AT + 6, held=True)]
    history.signals = [
        Signal(
            run_id=run_id(SIGNAL_RUN),
            call_id=CALL,
            approved=True,
            invoked_at=FAULT_AT + 5,
            answered_at=FAULT_AT + 5.1,
            outcome="ok",
            region="b",
        )
    ]


def seen(run: str, at: float, ordinals: Iterable[int], **changes: Any) -> Observation:
    told: dict[str, Any] = {"run_id": run, "at": at, "region": "a", "status": "running", "ordinals": list(ordinals)}
    return Observation.model_validate(told | {"tokens": dict.fromkeys(told["ordinals"][:1], TOKENS)} | changes)


def role(region: str, at: float, **changes: Any) -> RoleSample:
    """What a region said of itself: a until the fault, nobody in between, b from its promotion on; a comes back."""
    since = at - FAULT_AT
    active = region == ("a" if since < 0 else "b") and not 0 <= since < 4
    made: dict[str, Any] = {"at": at, "region": region}
    if region == "b" or since < 0 or since > 15:
        made |= {
            "agent": "active" if active else "standby",
            "epoch": 1 if since < 4 else 2,
            "database": "primary" if active else "replica",
            "timeline": 1 if since < 4 else 2,
        }
    return RoleSample.model_validate(made | changes)


def _add_run(history: History, number: int, began: float, in_flight: bool = True) -> None:
    assert history.effects is not None
    assert history.attempts is not None
    assert history.workflows is not None
    run, ticket = run_id(number), tickets()[number]
    payload = ticket.model_dump(mode="json", exclude_none=True)
    history.operations.append(
        ClientOperation(
            run_id=run,
            ticket=payload,
            invoked_at=began - 0.02,
            answered_at=began - 0.01,
            outcome="ok",
            region="a" if began < FAULT_AT else "b",
        )
    )
    items = [HistoryItem(sequence=0, type="executionStarted", at=began)]
    at = began
    for ordinal in range(1, OPERATIONS + 1):
        lost = in_flight and ordinal == IN_HAND
        kind, name = ("model", "model") if ordinal in MODEL else ("tool", "step")
        if lost:
            history.attempts.append(attempt(run, ordinal, "started", FAULT_AT - 0.1, kind=kind))
            history.effects.append(effect(run, "notifications", ordinal, FAULT_AT - 0.05, len(history.effects) + 1))
        asked = {"task_id": ordinal, "ordinal": ordinal, "kind": kind, "name": name, "attempt": 1}
        if (number, ordinal) == (SIGNAL_RUN, 4):
            asked["call_id"] = CALL
            raised = {"name": f"approval:{CALL}", "ok": True}
            items.append(HistoryItem(sequence=len(items), type="eventRaised", at=at, **raised))
        if (number, ordinal) == (TIMER_RUN, IN_HAND):
            for task, (created, due) in enumerate([(at, FAULT_AT + 2), (FAULT_AT + 4.5, FAULT_AT + 2)], start=50):
                timer = {"task_id": task, "due": due}
                items.append(HistoryItem(sequence=len(items), type="timerCreated", at=created, **timer))
            items.append(HistoryItem(sequence=len(items), type="timerFired", at=FAULT_AT + 4.6, task_id=51))
        items.append(HistoryItem(sequence=len(items), type="taskScheduled", at=at, **asked))
        at = max(at + 0.1, FAULT_AT + 5) if lost else at + 0.1
        history.attempts += [
            attempt(run, ordinal, phase, at + took, kind=kind) for phase, took in (("started", 0.0), ("ended", 0.05))
        ]
        if ordinal == EFFECT:
            outcome = "duplicate" if lost else "applied"
            made = effect(run, "notifications", ordinal, at + 0.02, len(history.effects) + 1, outcome=outcome)
            history.effects.append(made)
        done = {"task_id": ordinal, "ok": True, "tokens": TOKENS if kind == "model" else None}
        items.append(HistoryItem(sequence=len(items), type="taskCompleted", at=at + 0.06, **done))
    decided = decision(number)
    if decided["outcome"] == "refunded":
        history.effects.append(effect(run, "refunds", OPERATIONS, at, len(history.effects) + 1))
    items.append(HistoryItem(sequence=len(items), type="executionCompleted", at=at + 0.1))
    history.workflows.append(Workflow(run_id=run, status="completed", output={"output": decided}, history=items))
