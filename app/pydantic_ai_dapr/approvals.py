"""Waits for people: answers to external events and decisions about tool calls, kept by the workflow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

from pydantic import JsonValue, TypeAdapter
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.external_events import ExternalEventError, ExternalEventWaiter
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, RunContext, ToolApproved, ToolDenied

from pydantic_ai_dapr.client import approval_event, token_of
from pydantic_ai_dapr.errors import ErrorValue, rebuild, to_value
from pydantic_ai_dapr.run import LiveRun, current_run

ASK_ACTIVITY = "pydantic_ai_dapr.ask"
"""Records what `ask` answered: its result is its input."""
ASK_SECONDS = 30.0
_decision: TypeAdapter[ToolApproved | ToolDenied] = TypeAdapter(ToolApproved | ToolDenied)


class DurableEventWaiter(ExternalEventWaiter):
    """Lets a run wait for an answer from outside for as long as it takes, whatever happens to its processes.

    `ask` is called when the wait begins, and again only where the process dies before that has been recorded. The
    token is resolved with `AgentRunClient.resolve` or `fail`.
    """

    def __init__(self, submit: Callable[[Awaitable[Any]], Future[Any]]) -> None:
        self._submit = submit

    async def wait(
        self,
        name: str,
        *,
        ask: Callable[[str], Awaitable[JsonValue]],
        timeout: timedelta | None,  # noqa: ASYNC109  # the base class's
    ) -> JsonValue:
        run = current_run.get()
        assert run is not None
        event = f"answer:{name}:{run.uuid()}"
        token = token_of(run.instance_id, event)
        seconds = timeout.total_seconds() if timeout else None
        try:
            async with asyncio.timeout(seconds):
                asked = await run.call(ASK_ACTIVITY, lambda: self._ask(ask, token))
                if "error" in asked:
                    raise rebuild(ErrorValue.model_validate(asked["error"]))
                if asked["answer"] is not None:
                    return asked["answer"]
                value = await run.signal(event)
        except TimeoutError as error:
            raise ExternalEventError(f"No resolution arrived within {timeout}.") from error
        if "error" in value:
            raise ExternalEventError(str(value["error"]))
        return value["payload"]

    def _ask(self, ask: Callable[[str], Awaitable[JsonValue]], token: str) -> dict[str, Any]:
        try:
            return {"answer": self._submit(ask(token)).result(ASK_SECONDS)}
        except Exception as error:
            return {"error": to_value(error).model_dump(mode="json", exclude_none=True)}


class WaitForApproval(AbstractCapability[Any]):
    """Lets a durable run wait for a decision about each tool call that needs approval, and go on by itself.

    Decisions are given with `AgentRunClient.approve(run_id, tool_call_id, …)`. A call that is not decided within
    `timeout` is denied; without one the run waits for as long as it takes. Outside a durable run the calls end the
    run as `DeferredToolRequests`, as they do without this capability.
    """

    def __init__(self, timeout: timedelta | None = None) -> None:
        self.timeout = timeout

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[Any], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        run = current_run.get()
        if run is None or not requests.approvals:
            return None
        decisions = await asyncio.gather(*(self._decision(run, call.tool_call_id) for call in requests.approvals))
        ids = [call.tool_call_id for call in requests.approvals]
        return DeferredToolResults(approvals=dict(zip(ids, decisions, strict=True)))

    async def _decision(self, run: LiveRun, tool_call_id: str) -> ToolApproved | ToolDenied:
        try:
            async with asyncio.timeout(self.timeout.total_seconds() if self.timeout else None):
                return _decision.validate_python(await run.signal(approval_event(tool_call_id)))
        except TimeoutError:
            return ToolDenied(f"nobody decided within {self.timeout}")
