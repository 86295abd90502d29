"""Kinds of toolsets."""

from __future__ import annotations

from typing import Any

from pydantic_ai import (
    Agent,
    ApprovalRequiredToolset,
    CombinedToolset,
    DeferredToolRequests,
    ExternalToolset,
    FunctionToolset,
    RunContext,
    ToolDefinition,
    WrapperToolset,
)
from pydantic_ai.toolsets import DynamicToolset

from tests.support.scenarios.scenario import Traveller, durable, scenario, script


@scenario()
def prepared_and_filtered_toolsets() -> Agent[Any, Any]:
    tools: FunctionToolset[Any] = FunctionToolset(id="tools")

    @tools.tool_plain
    def seen(n: int) -> int:
        return n

    @tools.tool_plain
    def hidden() -> int:
        return 0

    async def describe(ctx: RunContext[Any], definitions: list[ToolDefinition]) -> list[ToolDefinition]:
        return definitions[:1]

    prefixed = tools.filtered(lambda ctx, definition: definition.name != "hidden").prefixed("my")
    return durable(script([("my_seen", {"n": 4})], ["done"]), toolsets=[prefixed.prepared(describe)])


@scenario(deps=Traveller("Ada"))
def toolsets_made_for_each_step() -> Agent[Any, Any]:
    def made(ctx: RunContext[Traveller]) -> FunctionToolset[Traveller]:
        tools: FunctionToolset[Traveller] = FunctionToolset(id="made")

        @tools.tool
        def greet(ctx: RunContext[Traveller]) -> str:
            return f"hello {ctx.deps.name}"

        return tools

    model = script([("greet", {})], ["done"])
    return durable(model, deps_type=Traveller, toolsets=[DynamicToolset(made, id="made")])


@scenario(deps=Traveller("Ada"))
def toolsets_added_by_a_decorator() -> Agent[Any, Any]:
    agent = durable(script([("greet", {})], ["done"]), deps_type=Traveller)

    @agent.toolset(id="added")
    def added(ctx: RunContext[Traveller]) -> FunctionToolset[Traveller]:
        tools: FunctionToolset[Traveller] = FunctionToolset(id="added")

        @tools.tool_plain
        def greet() -> str:
            return f"hello {ctx.deps.name}"

        return tools

    return agent


def counting(*names: str, id: str = "counting", **options: Any) -> FunctionToolset[Any]:
    tools: FunctionToolset[Any] = FunctionToolset(id=id, **options)

    def add(name: str) -> None:
        @tools.tool_plain(name=name)
        def count(n: int) -> str:
            """Counts."""
            return f"{name} {n}"

    for name in names:
        add(name)
    return tools


@scenario()
def combined_renamed_and_described_toolsets() -> Agent[Any, Any]:
    plain = CombinedToolset([counting("one", id="a"), counting("two", id="b").renamed({"zwei": "two"})])
    described = plain.with_metadata(of="numbers").include_return_schemas()
    return durable(script([("one", {"n": 1}), ("zwei", {"n": 2})], ["done"]), toolsets=[described])


@scenario()
def toolsets_that_are_wrapped() -> Agent[Any, Any]:
    class Louder(WrapperToolset[Any]):
        async def call_tool(self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: Any) -> Any:
            return f"{await super().call_tool(name, tool_args, ctx, tool)}!"

    return durable(script([("one", {"n": 1})], ["done"]), toolsets=[Louder(counting("one"))])


@scenario()
def toolsets_with_instructions() -> Agent[Any, Any]:
    tools = counting("one", instructions="count well")
    return durable(script([("one", {"n": 1})], ["done"]), toolsets=[tools])


@scenario()
def tools_of_somebody_else() -> Agent[Any, Any]:
    external = ExternalToolset([ToolDefinition(name="ask", parameters_json_schema={"type": "object"})], id="external")
    model = script([("ask", {"what": "?"})])
    return durable(model, toolsets=[external], output_type=[str, DeferredToolRequests])


@scenario()
def toolsets_that_need_approval() -> Agent[Any, Any]:
    tools = ApprovalRequiredToolset(counting("pay", "look"), lambda ctx, tool, args: tool.name == "pay")
    model = script([("pay", {"n": 1}), ("look", {"n": 2})])
    return durable(model, toolsets=[tools], output_type=[str, DeferredToolRequests])


@scenario()
def tools_that_are_searched_for() -> Agent[Any, Any]:
    hidden = counting("one", "two").defer_loading()
    return durable(script([("search_tools", {"queries": ["one"]})], [("one", {"n": 1})], ["done"]), toolsets=[hidden])
