"""Other code of the refund desk, as a deploy would bring it: what a fault deploys, a worker loads by its name.

It asks nobody, once at each model request: an activity of the workflow's side, which the desk's histories don't have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from refund_desk.hosted import HostedDesk

if TYPE_CHECKING:
    from pydantic_ai import Agent
    from refund_desk.effects import EffectsConfig
    from refund_desk.ticket import Decision, DeskDeps

PATCH = "ask-nobody-first"


@dataclass(frozen=True)
class AskingDesk(HostedDesk):
    """A desk that asks nobody before each model request: in every run, or only in those that begin with this code."""

    behind_a_patch: bool = True

    def build_agent(
        self, *, model: str, model_latency_seconds: float, effects: EffectsConfig
    ) -> Agent[DeskDeps, Decision]:
        """The refund desk's agent with the change."""
        from pydantic_ai_dapr import patched
        from pydantic_ai_dapr.approvals import ASK_ACTIVITY
        from pydantic_ai_dapr.run import current_run

        agent = super().build_agent(model=model, model_latency_seconds=model_latency_seconds, effects=effects)

        @agent.instructions
        async def ask_nobody() -> None:  # pyright: ignore[reportUnusedFunction]
            run = current_run.get()
            if run is not None and (not self.behind_a_patch or patched(PATCH)):
                await run.call(ASK_ACTIVITY, dict)

        return agent


next_release = AskingDesk()
careless_release = AskingDesk(behind_a_patch=False)
