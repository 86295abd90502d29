"""How a run is bounded, interrupted and described."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import TypeAdapter
from pydantic_ai import (
    Agent,
    ApprovalRequired,
    CallDeferred,
    DeferredToolRequests,
    DeferredToolResults,
    RunContext,
    ToolDenied,
)
from pydantic_ai.capabilities import AbstractCapability, HandleDeferredToolCalls
from pydantic_ai.exceptions import ModelRetry
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelRequest, ModelResponse, ToolCallPart
from pydantic_ai.usage import RunUsage, UsageLimits

from tests.support.scenarios.scenario import durable, scenario, script

DECIDED = DeferredToolResults(calls={"call-0-0": "the answer"}, approvals={"call-0-1": ToolDenied("too much")})
ASKED: list[ModelMessage] = [
    ModelRequest.user_text_prompt("go"),
    ModelResponse(
        parts=[
            ToolCallPart("later", {"n": 1}, tool_call_id="call-0-0"),
            ToolCallPart("asks", {}, tool_call_id="call-0-1"),
        ],
        model_name="m",
    ),
]


@scenario(
    plain={"usage_limits": UsageLimits(request_limit=2)},
    wire={"usage_limits": {"request_limit": 2}},
    raises="UsageLimitExceeded",
)
def a_limit_that_is_exceeded() -> Agent[Any, Any]:
    agent = durable(script(*[[("noop", {})]] * 5))

    @agent.tool_plain
    def noop() -> str:
        return "nothing"

    return agent


@scenario()
def calls_that_are_deferred() -> Agent[Any, Any]:
    agent = durable(script([("later", {"n": 1}), ("asks", {})]), output_type=[str, DeferredToolRequests])

    @agent.tool_plain
    def later(n: int) -> str:
        raise CallDeferred

    @agent.tool
    def asks(ctx: RunContext[Any]) -> str:
        if not ctx.tool_call_approved:
            raise ApprovalRequired(metadata={"why": "money"})
        return "approved"

    return agent


@scenario(
    plain={"message_history": ASKED, "deferred_tool_results": DECIDED},
    wire={
        "message_history": ModelMessagesTypeAdapter.dump_python(ASKED, mode="json"),
        "deferred_tool_results": TypeAdapter(DeferredToolResults).dump_python(DECIDED, mode="json"),
    },
    prompt=None,
)
def calls_that_were_decided_meanwhile() -> Agent[Any, Any]:
    agent = durable(script([], ["done"]), output_type=[str, DeferredToolRequests])

    @agent.tool_plain
    def later(n: int) -> str:
        raise CallDeferred

    @agent.tool_plain(requires_approval=True)
    def asks() -> str:
        return "approved"

    return agent


@scenario(
    plain={"metadata": {"tenant": "t"}, "conversation_id": "c-1"},
    wire={"metadata": {"tenant": "t"}, "conversation_id": "c-1"},
)
def metadata_and_conversations() -> Agent[Any, Any]:
    agent = durable(script([("who", {})], ["done"]))

    @agent.tool
    def who(ctx: RunContext[Any]) -> str:
        return f"{ctx.metadata} {ctx.conversation_id}"

    return agent


@scenario()
def calls_that_are_decided_at_once() -> Agent[Any, Any]:
    async def decide(ctx: RunContext[Any], requests: DeferredToolRequests) -> DeferredToolResults:
        return requests.build_results(approvals={call.tool_call_id: True for call in requests.approvals})

    model = script([("asks", {})], ["done"])
    agent = durable(model, output_type=[str, DeferredToolRequests], capabilities=[HandleDeferredToolCalls(decide)])

    @agent.tool_plain(requires_approval=True)
    def asks() -> str:
        return "approved"

    return agent


@scenario(
    plain={"usage_limits": UsageLimits(tool_calls_limit=1)},
    wire={"usage_limits": {"tool_calls_limit": 1}},
    raises="UsageLimitExceeded",
)
def more_calls_than_are_allowed() -> Agent[Any, Any]:
    agent = durable(script([("noop", {}), ("noop", {})]))

    @agent.tool_plain
    def noop() -> None:
        return None

    return agent


@scenario(
    plain={"usage": RunUsage(requests=2, tool_calls=1), "usage_limits": UsageLimits(request_limit=3)},
    wire={"usage": {"requests": 2, "tool_calls": 1}, "usage_limits": {"request_limit": 3}},
    raises="UsageLimitExceeded",
)
def a_limit_that_counts_what_was_used_before() -> Agent[Any, Any]:
    agent = durable(script([("noop", {})], ["done"]))

    @agent.tool_plain
    def noop() -> None:
        return None

    return agent


@scenario(
    plain={"usage": RunUsage(requests=2, input_tokens=10), "retries": {"tools": 2, "output": 0}},
    wire={"usage": {"requests": 2, "input_tokens": 10}, "retries": {"tools": 2, "output": 0}},
)
def usage_and_retries_of_the_run() -> Agent[Any, Any]:
    agent = durable(script([("fails", {"n": 1})], [("fails", {"n": 2})], [("fails", {"n": 3})], ["done"]))

    @agent.tool
    def fails(ctx: RunContext[Any], n: int) -> str:
        if n < 3:
            raise ModelRetry(f"once more, after {ctx.retry} of {ctx.max_retries}")
        return f"{ctx.usage.requests} requests"

    return agent


class Dawdling(AbstractCapability[Any]):
    """Waits before it asks the model."""

    async def before_model_request(self, ctx: RunContext[Any], request_context: Any) -> Any:
        await asyncio.sleep(600)
        return request_context


@scenario(plain={"timeout": 2.0}, wire={"timeout": 2.0}, raises="RunTimedOut")
def a_run_that_takes_too_long() -> Agent[Any, Any]:
    return durable(script(["done"]), capabilities=[Dawdling()])
