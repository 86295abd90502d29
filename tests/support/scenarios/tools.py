"""Function tools, and what they may do."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from opentelemetry import trace
from pydantic_ai import Agent, BinaryContent, ModelRetry, RunContext, Tool, ToolDefinition, ToolFailed, ToolReturn
from pydantic_ai_dapr import durable_sleep, durable_step

from tests.support.scenarios.scenario import Traveller, durable, scenario, script
from tests.support.spans import TRACER


@scenario()
def sequential_and_parallel_tools() -> Agent[Any, Any]:
    agent = durable(script([("first", {}), ("second", {}), ("second", {})], ["done"]))

    @agent.tool_plain(sequential=True)
    def first() -> str:
        return "first"

    @agent.tool_plain
    async def second() -> str:
        return "second"

    return agent


@scenario()
def tools_that_return_more_than_a_value() -> Agent[Any, Any]:
    agent = durable(script([("look", {})], ["done"]))

    @agent.tool_plain
    def look() -> ToolReturn:
        return ToolReturn("seen", content=["a picture:", BinaryContent(b"\x89PNG", media_type="image/png")], metadata=1)

    return agent


@scenario(raises="UnexpectedModelBehavior")
def tools_that_fail_too_often() -> Agent[Any, Any]:
    agent = durable(script(*[[("never", {})]] * 3), retries=1)

    @agent.tool_plain
    def never() -> str:
        raise ModelRetry("again")

    return agent


@scenario(raises="PermissionError")
def tools_that_raise() -> Agent[Any, Any]:
    agent = durable(script([("breaks", {})], ["done"]))

    @agent.tool_plain
    def breaks() -> str:
        raise PermissionError("not yours")

    return agent


@scenario()
def prepared_tools() -> Agent[Any, Any]:
    agent = durable(script([("once", {})], ["done"]))

    async def only_at_first(ctx: RunContext[Any], definition: ToolDefinition) -> ToolDefinition | None:
        return definition if ctx.run_step == 1 else None

    @agent.tool_plain(prepare=only_at_first)
    def once() -> str:
        return "once"

    return agent


@scenario()
def an_agent_that_a_tool_asks() -> Agent[Any, Any]:
    inner = Agent(script(["42"]), name="inner")
    agent = durable(script([("ask", {})], ["done"]))

    @agent.tool
    async def ask(ctx: RunContext[Any]) -> str:
        return (await inner.run("what?", usage=ctx.usage)).output

    return agent


@scenario()
def tools_that_say_that_they_failed() -> Agent[Any, Any]:
    agent = durable(script([("breaks", {})], ["done"]))

    @agent.tool_plain
    def breaks() -> str:
        raise ToolFailed("the shop is closed")

    return agent


@scenario()
def arguments_that_are_wrong_or_refused() -> Agent[Any, Any]:
    def positive(ctx: RunContext[Any], n: int) -> None:
        if n < 0:
            raise ModelRetry("a positive number, please")

    def double(ctx: RunContext[Any], n: int) -> str:
        return f"{2 * n} at attempt {ctx.retry}"

    tool = Tool(double, args_validator=positive, max_retries=3)
    turns = [[("double", {"n": n})] for n in ("x", -1, 2)]
    return durable(script(*turns, ["done"]), tools=[tool])


@scenario(raises="UnexpectedModelBehavior")
def tools_that_take_too_long() -> Agent[Any, Any]:
    agent = durable(script(*[[("slow", {})]] * 2), retries=0)

    @agent.tool_plain(timeout=0.001)
    async def slow() -> str:
        await asyncio.sleep(5)
        return "late"

    return agent


@scenario(deps=Traveller("Ada"))
def tools_that_know_their_run() -> Agent[Any, Any]:
    agent = durable(
        script([("who", {"n": 1})], ["done"]), deps_type=Traveller, validation_context=lambda ctx: {"of": ctx.deps.name}
    )

    @agent.tool
    def who(ctx: RunContext[Traveller], n: int) -> list[Any]:
        known = [ctx.deps.name, ctx.tool_name, ctx.tool_call_id, ctx.run_step, ctx.retry, ctx.max_retries]
        return [*known, ctx.usage.requests, ctx.validation_context]

    return agent


@scenario()
def tools_that_say_something_of_their_span() -> Agent[Any, Any]:
    agent = durable(script([("measured", {})], ["done"]))

    @agent.tool_plain
    def measured() -> str:
        span = trace.get_current_span()
        span.set_attribute("bytes", 7)
        span.add_event("read", {"file": "a"})
        with TRACER.start_as_current_span("inside"):
            return "measured"

    return agent


@scenario()
def tools_that_sleep() -> Agent[Any, Any]:
    agent = durable(script([("later", {}), ("now", {}), ("later", {})], [("later", {})], ["done"]))
    moment = timedelta(milliseconds=1)

    async def said(word: str) -> str:
        trace.get_current_span().add_event(word)
        return word

    @agent.tool_plain(timeout=30)
    async def later() -> list[str]:
        opened = await durable_step("say", lambda: said("opened"))
        await durable_sleep(moment)
        await durable_sleep(timedelta(0))
        closed = await durable_step("say", lambda: said("closed"))
        await durable_sleep(moment)
        trace.get_current_span().add_event("awake")
        return [opened, closed]

    @agent.tool_plain
    async def now() -> str:
        return "now"

    return agent


@scenario(raises="PermissionError")
def tools_that_fail_after_a_sleep() -> Agent[Any, Any]:
    agent = durable(script([("later", {})], [("later", {})], ["done"]))

    @agent.tool
    async def later(ctx: RunContext[Any]) -> str:
        await durable_sleep(timedelta(milliseconds=1))
        if ctx.run_step == 1:
            raise ModelRetry("again")
        raise PermissionError("not yours")

    return agent


@scenario()
def an_agent_that_a_tool_asks_before_it_sleeps() -> Agent[Any, Any]:
    inner = Agent(script(["42"]), name="inner")
    agent = durable(script([("ask", {})], ["done"]))

    @agent.tool
    async def ask(ctx: RunContext[Any]) -> list[str]:
        async def asked() -> str:
            return (await inner.run("what?", usage=ctx.usage)).output

        first = await durable_step("ask", asked)
        await durable_sleep(timedelta(milliseconds=1))
        return [first, await durable_step("ask", asked)]

    return agent
