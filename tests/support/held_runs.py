"""A run of the refund desk whose ticket is held: its history while it waits for a supervisor, and afterwards."""

from __future__ import annotations

from pydantic import JsonValue
from pydantic_ai_dapr import HistoryEvent
from pydantic_ai_dapr.client import approval_event
from refund_desk import Ticket, hosted
from refund_desk.agent import build_agent
from refund_desk.effects import MemoryEffects
from refund_desk.model import deterministic_model

from tests.support.durable_agents import DurableRun
from tests.support.recorded_runs import RecordingEngine, recording
from tests.support.workflow_engine import Event

TICKET = Ticket(
    ticket_id="T-1", customer="Bruno Costa", order_id="ORD-10038", body="It stopped working", hold_seconds=60
)
CALL = "call-3-await_supervisor"


class HeldRun:
    """The run, which goes on when a test lets it."""

    def __init__(self) -> None:
        self.run: DurableRun
        self.engine: RecordingEngine
        self.run, self.engine = recording(build_agent(deterministic_model(), MemoryEffects()))
        self.engine.name = "pydantic_ai_dapr.refund-desk"
        deps: JsonValue = hosted.deps(TICKET).model_dump(mode="json")
        self.engine.input = {"run_id": "run-1", "prompt": hosted.prompt(TICKET), "deps": deps}
        self.engine.turn()
        self._work()

    def events(self) -> list[HistoryEvent]:
        return self.engine.export().history()

    def decide(self, approved: bool, call: str = CALL) -> None:
        """A decision arrives, and the run goes on as far as it can."""
        kind = "tool-approved" if approved else "tool-denied"
        self.engine.inbox.append(Event("raised", name=approval_event(call), value={"kind": kind, "who": "Ada"}))
        self.engine.turn()
        self._work()

    def run_out_of_patience(self) -> None:
        """The timer fires, and the run goes on as far as it can."""
        (number,) = self.engine.wakeups
        self.engine.serve(number, self.run.serve)
        self.engine.turn()
        self._work()

    def _work(self) -> None:
        while not self.engine.ended and (
            ready := [number for number, one in self.engine.wakeups.items() if one.kind != "timer"]
        ):
            for number in ready:
                self.engine.serve(number, self.run.serve)
            self.engine.turn()
