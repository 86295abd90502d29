"""What a run's messages are made of: prompts, instructions, histories."""

from __future__ import annotations

from typing import Any

from pydantic_ai import Agent, BinaryContent, ImageUrl, RunContext
from pydantic_ai.capabilities import AbstractCapability, ProcessHistory, ReinjectSystemPrompt
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from tests.support.scenarios.scenario import Traveller, durable, scenario, script

HISTORY: list[ModelMessage] = [
    ModelRequest.user_text_prompt("earlier"),
    ModelResponse(parts=[ThinkingPart("hm"), TextPart("said")], model_name="m"),
]
EARLIER: dict[str, Any] = {
    "plain": {"message_history": HISTORY},
    "wire": {"message_history": ModelMessagesTypeAdapter.dump_python(HISTORY, mode="json")},
}


@scenario(**EARLIER)
def a_history_from_before() -> Agent[Any, Any]:
    return durable(script([], ["and now"], ["done"]), instructions="be brief", system_prompt="you know all")


@scenario(deps=Traveller("Ada"))
def dynamic_instructions_and_prompts() -> Agent[Any, Any]:
    agent = durable(script([("noop", {})], ["done"]), deps_type=Traveller, instructions=["be brief"])

    @agent.instructions
    async def told(ctx: RunContext[Traveller]) -> str:
        return f"speak to {ctx.deps.name} in step {ctx.run_step}"

    @agent.system_prompt(dynamic=True)
    def prompted(ctx: RunContext[Traveller]) -> str:
        return f"you serve {ctx.deps.name}"

    @agent.tool_plain
    def noop() -> None:
        return None

    return agent


@scenario()
def histories_that_are_shortened() -> Agent[Any, Any]:
    def shorten(messages: list[ModelMessage]) -> list[ModelMessage]:
        return [messages[0], *messages[-2:]] if len(messages) > 3 else messages

    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        said = messages[-1].parts[-1]
        number = said.content + 1 if isinstance(said, ToolReturnPart) else 0
        if number == 3:
            return ModelResponse(parts=[TextPart(f"saw {len(messages)} messages")])
        return ModelResponse(parts=[ToolCallPart("count", {"number": number}, tool_call_id=f"call-{number}")])

    agent = durable(FunctionModel(answer), capabilities=[ProcessHistory(shorten)])

    @agent.tool_plain
    def count(number: int) -> int:
        return number

    return agent


@scenario(
    prompt=["what is this?", ImageUrl("https://example.org/a.png"), BinaryContent(b"abc", media_type="text/plain")]
)
def prompts_of_several_parts() -> Agent[Any, Any]:
    return durable(script(["a picture"]))


@scenario(prompt=None)
def no_prompt_at_all() -> Agent[Any, Any]:
    return durable(script(["done"]), instructions="say something")


@scenario(**EARLIER)
def a_system_prompt_that_the_history_lacks() -> Agent[Any, Any]:
    return durable(script([], ["done"]), system_prompt="you know all", capabilities=[ReinjectSystemPrompt()])


@scenario(plain={"instructions": "today, briefly"}, wire={"instructions": "today, briefly"})
def instructions_of_the_run() -> Agent[Any, Any]:
    return durable(script(["done"]), instructions="be kind")


@scenario()
def answers_of_many_kinds_of_parts() -> Agent[Any, Any]:
    agent = durable(script([ThinkingPart("hm", signature="s", provider_name="p"), "well,", ("noop", {})], ["a", "b"]))

    @agent.tool_plain
    def noop() -> None:
        return None

    return agent


class Compacting(FunctionModel):
    """A model whose provider makes long histories short."""

    async def compact_messages(self, request_context: Any, *, instructions: str | None = None) -> ModelResponse:
        return ModelResponse(parts=[TextPart(f"{len(request_context.messages)} messages, {instructions}")])


class InShort(AbstractCapability[Any]):
    async def before_model_request(self, ctx: RunContext[Any], request_context: Any) -> Any:
        if len(request_context.messages) > 2:
            short = await request_context.model.compact_messages(request_context, instructions="be brief")
            request_context.messages = [request_context.messages[0], short, request_context.messages[-1]]
        return request_context


@scenario()
def histories_that_the_provider_makes_short() -> Agent[Any, Any]:
    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if len(messages) == 1:
            return ModelResponse(parts=[ToolCallPart("noop", {}, tool_call_id="call-0")])
        return ModelResponse(parts=[TextPart(str(messages[1].parts[0].content))])

    agent = durable(Compacting(answer), capabilities=[InShort()])

    @agent.tool_plain
    def noop() -> None:
        return None

    return agent
