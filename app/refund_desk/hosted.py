"""The refund desk as a worker and an API host it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refund_desk.ticket import Decision, DeskDeps, Ticket

if TYPE_CHECKING:
    from pydantic_ai import Agent

    from refund_desk.effects import EffectsConfig


@dataclass(frozen=True)
class HostedDesk:
    """Names the agent, its typed input and output, and builds it on demand."""

    name: str = "refund-desk"
    input_type: type[Ticket] = Ticket
    output_type: type[Decision] = Decision

    def build_agent(
        self, *, model: str, model_latency_seconds: float, effects: EffectsConfig
    ) -> Agent[DeskDeps, Decision]:
        """An agent whose effects go to the payments service that `effects` names."""
        from refund_desk.agent import build_agent
        from refund_desk.effects import HttpEffects
        from refund_desk.model import resolve_model

        found = resolve_model(model, model_latency_seconds, effects.model_provider)
        return build_agent(found, HttpEffects(effects))

    def warm_up(self) -> None:
        """Import what `build_agent` needs, so that building takes no time later."""
        importlib.import_module("refund_desk.agent")
        importlib.import_module("refund_desk.model")
        importlib.import_module("pydantic_ai.models.openai")

    def prompt(self, ticket: Ticket) -> str:
        """The user prompt of a run on `ticket`."""
        return ticket.as_prompt()

    def deps(self, ticket: Ticket) -> DeskDeps:
        """The typed dependencies of a run on `ticket`."""
        return DeskDeps(ticket_id=ticket.ticket_id, customer=ticket.customer, hold_seconds=ticket.hold_seconds)


hosted = HostedDesk()
