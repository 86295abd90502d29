"""Who decides a ticket that is held: a person, for whom the run waits as long as the ticket says, or a given answer."""

from __future__ import annotations

from datetime import timedelta

from pydantic_ai.capabilities import AbstractCapability, HandleDeferredToolCalls
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, RunContext, ToolApproved, ToolDenied
from pydantic_ai_dapr import WaitForApproval

from refund_desk.ticket import DeskDeps


class WaitForSupervisor(AbstractCapability[DeskDeps]):
    """Waits durably for the decision; what is not decided within the ticket's `hold_seconds` is denied."""

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[DeskDeps], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        seconds = ctx.deps.hold_seconds
        patience = timedelta(seconds=seconds) if seconds else None
        return await WaitForApproval(patience).handle_deferred_tool_calls(ctx, requests=requests)


def decided(released: bool) -> AbstractCapability[DeskDeps]:
    """Decides every held ticket at once, and the same way."""

    def decide(ctx: RunContext[DeskDeps], requests: DeferredToolRequests) -> DeferredToolResults:
        answer = ToolApproved() if released else ToolDenied("nobody released it")
        return DeferredToolResults(approvals={call.tool_call_id: answer for call in requests.approvals})

    return HandleDeferredToolCalls(handler=decide)
