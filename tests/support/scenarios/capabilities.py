"""Capabilities: hooks, operations, workspaces, and what bundles tools and instructions."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from pydantic_ai import Agent, FunctionToolset, RunContext, ToolDefinition, WebSearchTool
from pydantic_ai.capabilities import (
    AbstractCapability,
    Capability,
    Hooks,
    LocalWorkspace,
    NativeTool,
    PrefixTools,
    PrepareTools,
    SetToolMetadata,
    Thinking,
    durable_operation,
)
from pydantic_ai.exceptions import ModelRetry, SkipModelRequest, SkipToolExecution
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.workspaces import LocalWorkspaceBackend, WorkspaceRef

from tests.support.scenarios.scenario import durable, scenario, script


class Remembering(AbstractCapability[Any]):
    """Looks something up once for each run, as an operation of its own."""

    id = "remembering"

    @durable_operation(name="look_up")
    async def look_up(self, ctx: RunContext[Any], name: str) -> str:
        return f"{name} is remembered"

    async def before_model_request(self, ctx: RunContext[Any], request_context: Any) -> Any:
        known = await self.look_up(ctx, "Ada")
        request_context.messages[-1].instructions = known
        return request_context


@scenario()
def hooks_around_requests_and_calls() -> Agent[Any, Any]:
    async def louder(ctx: RunContext[Any], *, call: Any, tool_def: Any, args: Any, result: Any) -> Any:
        return f"{result}!"

    agent = durable(script([("say", {})], ["done"]), capabilities=[Hooks(after_tool_execute=louder)])

    @agent.tool_plain
    def say() -> str:
        return "hi"

    return agent


@scenario()
def operations_of_capabilities() -> Agent[Any, Any]:
    return durable(script(["done"]), capabilities=[Remembering()])


class Watching(AbstractCapability[Any]):
    """Has a hand in everything that a run does."""

    async def before_run(self, ctx: RunContext[Any]) -> None:
        ctx.metadata = {"seen": ["run"]}

    async def after_model_request(self, ctx: RunContext[Any], *, request_context: Any, response: Any) -> Any:
        return response

    async def wrap_model_request(self, ctx: RunContext[Any], *, request_context: Any, handler: Any) -> Any:
        response = await handler(request_context)
        response.parts.append(TextPart(f" (seen in step {ctx.run_step})"))
        return response

    async def before_tool_execute(self, ctx: RunContext[Any], *, call: Any, tool_def: Any, args: Any) -> Any:
        return args | {"n": args["n"] + 1}

    async def wrap_tool_execute(self, ctx: RunContext[Any], *, args: Any, handler: Any, **_: Any) -> Any:
        return [await handler(args), "wrapped"]

    async def on_tool_execute_error(self, ctx: RunContext[Any], *, error: Exception, **_: Any) -> Any:
        return f"instead of {error}"

    async def after_run(self, ctx: RunContext[Any], *, result: Any) -> Any:
        result.output = f"{result.output}."
        return result


@scenario()
def hooks_around_everything() -> Agent[Any, Any]:
    agent = durable(script([("say", {"n": 1}), ("breaks", {"n": 1})], ["done"]), capabilities=[Watching()])

    @agent.tool_plain
    def say(n: int) -> int:
        return n

    @agent.tool_plain
    def breaks(n: int) -> int:
        raise ValueError(f"no {n}")

    return agent


@scenario()
def hooks_that_answer_instead() -> Agent[Any, Any]:
    async def known(ctx: RunContext[Any], *, call: Any, tool_def: Any, args: Any) -> Any:
        raise SkipToolExecution("known already")

    async def enough(ctx: RunContext[Any], request_context: Any) -> Any:
        if ctx.run_step > 1:
            raise SkipModelRequest(ModelResponse(parts=[TextPart("enough")]))
        return request_context

    hooks = Hooks(before_tool_execute=known, before_model_request=enough)
    agent = durable(script([("say", {})]), capabilities=[hooks])

    @agent.tool_plain
    def say() -> str:
        return "hi"

    return agent


@scenario()
def hooks_that_send_an_answer_back() -> Agent[Any, Any]:
    async def polite(ctx: RunContext[Any], *, request_context: Any, response: Any) -> Any:
        if "please" not in str(response.parts):
            raise ModelRetry("say please")
        return response

    return durable(script(["give"], ["give, please"]), capabilities=[Hooks(after_model_request=polite)])


@scenario()
def bundles_of_tools_and_instructions() -> Agent[Any, Any]:
    tools: FunctionToolset[Any] = FunctionToolset(id="inner")

    @tools.tool_plain
    def say(what: str) -> str:
        return what

    async def first(ctx: RunContext[Any], definitions: list[ToolDefinition]) -> list[ToolDefinition]:
        return definitions[:1]

    bundle = Capability(id="bundle", instructions="speak up", toolsets=[tools])
    added = [PrefixTools(wrapped=bundle, prefix="my"), PrepareTools(first), SetToolMetadata(of="bundle")]
    return durable(script([("my_say", {"what": "hi"})], ["done"]), capabilities=added)


@scenario()
def bundles_that_are_loaded_when_needed() -> Agent[Any, Any]:
    tools: FunctionToolset[Any] = FunctionToolset(id="later")

    @tools.tool_plain
    def say(what: str) -> str:
        return what

    later = Capability(
        id="speaking", description="Speaks.", instructions="speak up", toolsets=[tools], defer_loading=True
    )
    model = script([("load_capability", {"id": "speaking"})], [("say", {"what": "hi"})], ["done"])
    return durable(model, capabilities=[later])


@scenario()
def tools_of_the_provider_and_thinking() -> Agent[Any, Any]:
    profile = ModelProfile(supported_native_tools=frozenset({WebSearchTool}), supports_thinking=True)
    model = script(["done"], profile=profile)
    return durable(model, capabilities=[NativeTool(WebSearchTool()), Thinking(effort="high")])


@scenario()
def a_workspace() -> Agent[Any, Any]:
    folder = Path(tempfile.gettempdir()) / "pydantic-ai-dapr-workspace"
    folder.mkdir(exist_ok=True)
    agent = durable(script([("keep", {"text": "hi"})], ["done"]), capabilities=[LocalWorkspace(folder)])

    @agent.tool
    async def keep(ctx: RunContext[Any], text: str) -> str:
        await ctx.workspace.write_text("note.txt", text)
        return await ctx.workspace.read_text("note.txt")

    return agent


FOLDER = WorkspaceRef(provider="local", id=str(Path(tempfile.gettempdir()) / "pydantic-ai-dapr-workspace"))


class AnyFolder(AbstractCapability[Any]):
    """Works where the run says."""

    def get_workspace(self, ctx: RunContext[Any], *, ref: WorkspaceRef | None) -> LocalWorkspaceBackend | None:
        return LocalWorkspaceBackend(ref.id) if ref else None


@scenario(plain={"workspace": FOLDER}, wire={"workspace": {"provider": "local", "id": FOLDER.id}})
def a_workspace_of_the_run() -> Agent[Any, Any]:
    Path(FOLDER.id).mkdir(exist_ok=True)
    agent = durable(script([("where", {})], ["done"]), capabilities=[AnyFolder()])

    @agent.tool
    async def where(ctx: RunContext[Any]) -> str:
        return await ctx.workspace.working_dir()

    return agent
