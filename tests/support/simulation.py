"""Histories of a correct deployment, drawn at random: whatever it may do happens in some of them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from chaos.checks.reexecution import completions
from chaos.history import (
    AgentEvent,
    Attempt,
    Bounds,
    ClientOperation,
    Fault,
    History,
    HistoryItem,
    Intrusion,
    Proof,
    Replay,
    Signal,
    Workflow,
)
from tests.support.histories import FAULT_AT, attempt, effect, role, seen

PIDS = {("a", 1): 11, ("a", 2): 12, ("b", 1): 21, ("b", 2): 22}
STRANGER = 99
"""A process that has no business here."""
CALL, APPROVED, TOKENS = "call-1", "refunds", 100
KINDS = ["model", "notes", "refunds", "approvals", "notifications"]
"""What a run's operations do, one each; all but the first are effects."""


class Simulation:
    """Runs on two regions with two workers each: region a is lost at the fault, region b goes on in the next epoch.

    An operation is delivered until it has succeeded, and by one worker at a time. A delivery may be joined, may fail,
    or is cut by the fault, after its effect or before. An effect is applied by its first delivery that gets so far.
    Each run waits for a timer and for an approval, and a client looks at it now and then.
    """

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self.history = History(experiment="region-loss", effects=[], attempts=[], workflows=[])
        killed = [pid for (region, _), pid in PIDS.items() if region == "a"]
        self.history.faults = [Fault(name="region-loss", target="region a", at=FAULT_AT, killed=killed, proven=True)]
        for number in range(draw(st.integers(1, 4))):
            self._run(f"run-{number}", FAULT_AT + draw(st.floats(-3, 1)))
        assert self.history.effects is not None
        in_order = sorted(self.history.effects, key=lambda one: one.at)
        self.history.effects = [one.model_copy(update={"seq": seq}) for seq, one in enumerate(in_order, start=1)]
        self._observe()

    def _run(self, run: str, at: float) -> None:
        assert self.history.workflows is not None
        self.history.operations.append(
            ClientOperation(
                run_id=run,
                ticket={},
                invoked_at=at - 0.1,
                answered_at=at,
                outcome="ok",
                region="a" if at <= FAULT_AT else "b",
            )
        )
        items: list[HistoryItem] = []
        for ordinal, kind in enumerate(KINDS, start=1):
            at = self._operation(items, run, ordinal, kind, at)
            if kind == KINDS[0]:
                at = self._wait(items, run, at)
        items.append(HistoryItem(sequence=len(items), type="executionCompleted", at=at))
        output = {"output": {"outcome": "refunded"}}
        self.history.workflows.append(Workflow(run_id=run, status="completed", output=output, history=items))

    def _operation(self, items: list[HistoryItem], run: str, ordinal: int, kind: str, at: float) -> float:
        """Deliver until one succeeds; returns when its result was in the history."""
        draw, applied, retry = self._draw, False, 0
        while True:
            retry += 1
            task = len(items)
            asked: dict[str, Any] = {"ordinal": ordinal, "kind": self._kind(kind), "attempt": retry, "task_id": task}
            call = {"call_id": CALL} if kind == APPROVED else {}
            items.append(HistoryItem(sequence=task, type="taskScheduled", at=at, **asked, **call))
            cut = True
            while cut:
                began, ended, cut = self._delivery(run, ordinal, kind, at, retry)
                if kind != KINDS[0] and draw(st.booleans()):
                    self._apply(run, kind, ordinal, (began + ended) / 2, applied)
                    applied = True
                at = FAULT_AT + 1 + draw(st.floats(0, 2)) if cut else ended
            fails = retry < 3 and draw(st.integers(0, 3)) == 0
            if not fails and kind != KINDS[0] and not applied:
                self._apply(run, kind, ordinal, ended, applied)
            at = ended + draw(st.floats(0.001, 0.1))
            tokens = {"tokens": TOKENS} if kind == KINDS[0] and not fails else {}
            done: dict[str, Any] = {"task_id": task, "ok": not fails, **tokens}
            items.append(HistoryItem(sequence=len(items), type="taskCompleted", at=at, **done))
            if not fails:
                return at

    def _delivery(self, run: str, ordinal: int, kind: str, at: float, retry: int) -> tuple[float, float, bool]:
        draw = self._draw
        took = draw(st.floats(0.01, 0.5))
        lost = at >= FAULT_AT
        began = max(at, FAULT_AT + 1) if lost else at
        cut = began < FAULT_AT <= began + took
        region, worker = "b" if lost else "a", draw(st.integers(1, 2))
        who: dict[str, Any] = {
            "region": region,
            "epoch": 2 if lost else 1,
            "worker": f"worker-{worker}",
            "pid": PIDS[region, worker],
            "attempt": retry,
            "kind": self._kind(kind),
        }
        self._say(attempt(run, ordinal, "started", began, **who))
        if not cut:
            self._say(attempt(run, ordinal, "ended", began + took, **who))
        if draw(st.booleans()):
            self._say(attempt(run, ordinal, "started", began + took / 3, joined=True, **who))
        return began, FAULT_AT if cut else began + took, cut

    def _wait(self, items: list[HistoryItem], run: str, at: float) -> float:
        """The run sets a timer and goes on when it has fired; then it waits for an approval."""
        due = at + self._draw(st.floats(0.1, 2))
        for task in (800, 801) if at < FAULT_AT < due else (800,):
            created = at if task == 800 else FAULT_AT + 1
            items.append(HistoryItem(sequence=len(items), type="timerCreated", at=created, task_id=task, due=due))
        at = max(due, FAULT_AT + 1 if at < FAULT_AT <= due else due) + self._draw(st.floats(0.001, 1))
        items.append(HistoryItem(sequence=len(items), type="timerFired", at=at, task_id=task))
        asked = at
        at += self._draw(st.floats(0.1, 2))
        items.append(HistoryItem(sequence=len(items), type="eventRaised", at=at, name=f"approval:{CALL}", ok=True))
        sent: dict[str, Any] = {"run_id": run, "call_id": CALL, "approved": True, "region": "b"}
        lost = self._draw(st.booleans())
        for outcome in ("unknown", "ok") if lost else ("ok",):
            signal = Signal(**sent, invoked_at=asked, answered_at=at, outcome=outcome)
            self.history.signals = [*(self.history.signals or []), signal]
        return at

    def _observe(self) -> None:
        history, workflows = self.history, self.history.workflows or []
        history.recorded_at = FAULT_AT + 60
        promoted = {"region": "b", "at": FAULT_AT + 0.9, "event": "promoted", "epoch": 2}
        history.events = [AgentEvent.model_validate(promoted)]
        history.roles = [role(region, FAULT_AT + at) for at in range(-4, 20) for region in ("a", "b")]
        history.replays = [Replay(run_id=one.run_id, same=True, actions=9) for one in workflows]
        history.proofs = [Proof(run_id=one.run_id, proven=True, events=30, signers=["spiffe://a"]) for one in workflows]
        history.intrusions = [Intrusion(name="x", door="y", expected="401", observed="401", refused=True)]
        history.observations = []
        for one in workflows:
            done = list(completions(one).items())
            at = FAULT_AT + self._draw(st.floats(-3, 10))
            told = [ordinal for ordinal, when in done if when < at]
            history.observations.append(seen(one.run_id, at, told))
            ended = {"region": "b", "status": "completed"}
            history.observations.append(seen(one.run_id, FAULT_AT + 50, [ordinal for ordinal, _ in done], **ended))
        runs = len(workflows)
        history.bounds = Bounds(
            roles=True, observations=True, replays=runs, proofs=runs, timers=runs, signals=runs, intrusions=1
        )
        # Where nothing had completed before the fault, there was nothing to look at.
        if not any(one.at < FAULT_AT and one.ordinals for one in history.observations):
            history.bounds = history.bounds.model_copy(update={"observations": False})

    def _kind(self, kind: str) -> str:
        return "model" if kind == KINDS[0] else "tool"

    def _say(self, one: Attempt) -> None:
        assert self.history.attempts is not None
        self.history.attempts.append(one)

    def _apply(self, run: str, kind: str, ordinal: int, at: float, again: bool) -> None:
        assert self.history.effects is not None
        outcome = "duplicate" if again else "applied"
        self.history.effects.append(effect(run, kind, ordinal, at, len(self.history.effects) + 1, outcome=outcome))


@st.composite
def correct(draw: st.DrawFn) -> History:
    return Simulation(draw).history
