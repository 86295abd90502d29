"""How a run is bounded, interrupted and described."""

from __future__ import annotations

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
from pydantic_ai.capabilities import HandleDeferredToolCalls
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelRequest, ModelResponse, ToolCallPart
from pydantic_ai.usage import UsageLimits

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
