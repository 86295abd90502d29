"""Tokens and events, as they come."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any

from pydantic_ai import Agent, RunContext
from pydantic_ai.capabilities import ProcessEventStream
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai_dapr import DaprDurability

from tests.support.scenarios.scenario import durable, scenario


async def told(messages: list[ModelMessage], info: AgentInfo) -> Any:
    if len(messages) == 1:
        yield {0: DeltaToolCall("say", '{"what": ', tool_call_id="call-0-0")}
        yield {0: DeltaToolCall(json_args='"hi"}')}
        return
    yield "streamed "
    yield "text"


async def handle(ctx: RunContext[Any], events: AsyncIterable[Any]) -> None:
    async for _ in events:
        pass


def saying(agent: Agent[Any, Any]) -> Agent[Any, Any]:
    @agent.tool_plain
    def say(what: str) -> str:
        return what

    return agent


@scenario()
def events_that_are_handled() -> Agent[Any, Any]:
    durability = DaprDurability(event_stream_handler=handle)
    return saying(Agent(FunctionModel(stream_function=told), name="agent", capabilities=[durability]))


@scenario()
def events_that_a_capability_handles() -> Agent[Any, Any]:
    return saying(durable(FunctionModel(stream_function=told), capabilities=[ProcessEventStream(handle)]))
