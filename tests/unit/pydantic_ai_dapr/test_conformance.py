"""Every feature of an agent's run gives the same messages, usage, output and errors when the run is durable.

Each scenario is run as a plain agent, durably, durably without memory (every work item replays all of it), with a
history that is cut after each answer, and with its worker and its wake-ups lost at every turn.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter
from pydantic_ai import (
    Agent,
    ApprovalRequired,
    BinaryContent,
    CallDeferred,
    DeferredToolRequests,
    DeferredToolResults,
    FunctionToolset,
    ImageUrl,
    ModelRetry,
    NativeOutput,
    PromptedOutput,
    RunContext,
    TextOutput,
    ToolDefinition,
    ToolDenied,
    ToolOutput,
    ToolReturn,
)
from pydantic_ai.capabilities import AbstractCapability, Hooks, ProcessHistory, durable_operation
from pydantic_ai.exceptions import ModelHTTPError
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
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.toolsets import DynamicToolset
from pydantic_ai.usage import UsageLimits
from pydantic_ai_dapr import DaprDurability, Retry
from pydantic_core import to_jsonable_python

from tests.support.durable_agents import DurableRun, comparable

pytestmark = pytest.mark.unit


class Weather(BaseModel):
    city: str
    degrees: int


class Failure(BaseModel):
    reason: str


@dataclass
class Traveller:
    name: str


def script(*turns: list[Any], profile: ModelProfile | None = None) -> FunctionModel:
    """A model whose n-th request is answered with the n-th turn; tuples are tool calls, `final` the output tool's."""

    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        made = sum(isinstance(message, ModelResponse) for message in messages)
        parts: list[Any] = []
        for number, part in enumerate(turns[made]):
            if isinstance(part, str):
                parts.append(TextPart(part))
            elif isinstance(part, tuple):
                name = info.output_tools[part[2] if len(part) > 2 else 0].name if part[0] == "final" else part[0]
                parts.append(ToolCallPart(name, part[1], tool_call_id=f"call-{made}-{number}"))
            else:
                parts.append(part)
        return ModelResponse(parts=parts)

    return FunctionModel(answer, profile=profile)


def durable(model: Any, **options: Any) -> Agent[Any, Any]:
    capabilities = [DaprDurability(retry=Retry(attempts=3)), *options.pop("capabilities", [])]
    return Agent(model, name="agent", capabilities=capabilities, **options)


@dataclass(frozen=True)
class Scenario:
    """An agent, and what it is run with; `raises` where the run fails."""

    make: Callable[[], Agent[Any, Any]]
    plain: dict[str, Any] = field(default_factory=dict)
    wire: dict[str, Any] = field(default_factory=dict)
    deps: Any = None
    prompt: Any = "go"
    raises: str | None = None

    def __str__(self) -> str:
        return self.make.__name__


SCENARIOS: list[Scenario] = []


def scenario(**options: Any) -> Callable[[Callable[[], Agent[Any, Any]]], Callable[[], Agent[Any, Any]]]:
    def add(make: Callable[[], Agent[Any, Any]]) -> Callable[[], Agent[Any, Any]]:
        SCENARIOS.append(Scenario(make, **options))
        return make

    return add


JSON = '{"city": "Bern", "degrees": 21}'


@scenario()
def output_by_one_of_several_tools() -> Agent[Any, Any]:
    return durable(script([("final", {"reason": "fog"}, 1)]), output_type=[ToolOutput(Weather), ToolOutput(Failure)])


@scenario()
def output_by_the_models_own_schema() -> Agent[Any, Any]:
    profile = ModelProfile(supports_json_schema_output=True)
    return durable(script([JSON], profile=profile), output_type=NativeOutput(Weather))


@scenario()
def output_by_prompt() -> Agent[Any, Any]:
    return durable(script([JSON]), output_type=PromptedOutput(Weather))


@scenario()
def output_by_a_function_of_the_text() -> Agent[Any, Any]:
    def parse(text: str) -> Weather:
        return Weather.model_validate_json(text)

    return durable(script([JSON]), output_type=TextOutput(parse))


@scenario()
def output_by_a_function_that_asks_again() -> Agent[Any, Any]:
    def book(city: str) -> Weather:
        if city == "Atlantis":
            raise ModelRetry("a city that exists, please")
        return Weather(city=city, degrees=1)

    return durable(script([("final", {"city": "Atlantis"})], [("final", {"city": "Ulm"})]), output_type=book)


@scenario(raises="UnexpectedModelBehavior")
def output_that_is_never_valid() -> Agent[Any, Any]:
    return durable(script(*[[("final", {"city": "Bern"})]] * 3), output_type=Weather)


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


@scenario()
def prepared_tools() -> Agent[Any, Any]:
    agent = durable(script([("once", {})], ["done"]))

    async def only_at_first(ctx: RunContext[Any], definition: ToolDefinition) -> ToolDefinition | None:
        return definition if ctx.run_step == 1 else None

    @agent.tool_plain(prepare=only_at_first)
    def once() -> str:
        return "once"

    return agent


@scenario(deps=Traveller("Ada"))
def toolsets_made_for_each_step() -> Agent[Any, Any]:
    def made(ctx: RunContext[Traveller]) -> FunctionToolset[Traveller]:
        tools: FunctionToolset[Traveller] = FunctionToolset(id=f"step-{ctx.run_step}")

        @tools.tool
        def greet(ctx: RunContext[Traveller]) -> str:
            return f"hello {ctx.deps.name}"

        return tools

    model = script([("greet", {})], [("greet", {})], ["done"])
    return durable(model, deps_type=Traveller, toolsets=[DynamicToolset(made, id="made")])


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
    agent = durable(script(*[[("never", {})]] * 4), retries=2)

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


HISTORY: list[ModelMessage] = [
    ModelRequest.user_text_prompt("earlier"),
    ModelResponse(parts=[ThinkingPart("hm"), TextPart("said")], model_name="m"),
]


@scenario(
    plain={"message_history": HISTORY},
    wire={"message_history": ModelMessagesTypeAdapter.dump_python(HISTORY, mode="json")},
)
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
        if number == 4:
            return ModelResponse(parts=[TextPart(f"saw {len(messages)} messages")])
        return ModelResponse(parts=[ToolCallPart("count", {"number": number}, tool_call_id=f"call-{number}")])

    agent = durable(FunctionModel(answer), capabilities=[ProcessHistory(shorten)])

    @agent.tool_plain
    def count(number: int) -> int:
        return number

    return agent


@scenario()
def hooks_around_requests_and_calls() -> Agent[Any, Any]:
    async def louder(ctx: RunContext[Any], *, call: Any, tool_def: Any, args: Any, result: Any) -> Any:
        return f"{result}!"

    agent = durable(script([("say", {})], ["done"]), capabilities=[Hooks(after_tool_execute=louder)])

    @agent.tool_plain
    def say() -> str:
        return "hi"

    return agent


@scenario(
    plain={"model_settings": {"temperature": 0.5}},
    wire={"model_settings": {"temperature": 0.5}},
)
def settings_of_the_run() -> Agent[Any, Any]:
    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart(str(info.model_settings))])

    return durable(FunctionModel(answer), model_settings={"max_tokens": 5})


@scenario()
def a_model_to_fall_back_on() -> Agent[Any, Any]:
    async def breaks(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise ModelHTTPError(503, "first")

    return durable(FallbackModel(FunctionModel(breaks), script(["from the second"])))


@scenario(raises="ModelHTTPError")
def a_model_that_refuses() -> Agent[Any, Any]:
    async def refuses(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise ModelHTTPError(400, "m", {"why": "bad"})

    return durable(FunctionModel(refuses))


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
    prompt=["what is this?", ImageUrl("https://example.org/a.png"), BinaryContent(b"abc", media_type="text/plain")]
)
def prompts_of_several_parts() -> Agent[Any, Any]:
    return durable(script(["a picture"]))


@scenario(prompt=None)
def no_prompt_at_all() -> Agent[Any, Any]:
    return durable(script(["done"]), instructions="say something")


@scenario()
def an_agent_that_a_tool_asks() -> Agent[Any, Any]:
    inner = Agent(script(["42"]), name="inner")
    agent = durable(script([("ask", {})], ["done"]))

    @agent.tool
    async def ask(ctx: RunContext[Any]) -> str:
        return (await inner.run("what?", usage=ctx.usage)).output

    return agent


@scenario()
def events_that_are_handled() -> Agent[Any, Any]:
    async def handle(ctx: RunContext[Any], events: AsyncIterable[Any]) -> None:
        async for _ in events:
            pass

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> Any:
        yield "streamed "
        yield "text"

    durability = DaprDurability(event_stream_handler=handle)
    return Agent(FunctionModel(stream_function=stream), name="agent", capabilities=[durability])


@scenario(plain={"model": "other"}, wire={"model": "other"})
def another_model_for_one_run() -> Agent[Any, Any]:
    durability = DaprDurability(models={"other": script(["from the other"])})
    return Agent(script(["from the first"]), name="agent", capabilities=[durability])


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
def operations_of_capabilities() -> Agent[Any, Any]:
    return durable(script(["done"]), capabilities=[Remembering()])


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


def expected(scenario: Scenario) -> tuple[Any, Any, Any]:
    result = scenario.make().run_sync(scenario.prompt, deps=scenario.deps, **scenario.plain)
    return result.output, comparable(result.all_messages()), _usage(result.usage)


def _usage(usage: Any) -> Any:
    return {key: value for key, value in to_jsonable_python(usage).items() if value}


def started(scenario: Scenario, **options: Any) -> DurableRun:
    prompt = to_jsonable_python(scenario.prompt)
    return DurableRun(scenario.make(), prompt=prompt, deps=scenario.deps, arguments=scenario.wire, **options)


def lost_at_every_turn(scenario: Scenario) -> DurableRun:
    run = started(scenario)
    run.engine.turn()
    while not run.engine.ended:
        run.replace_worker()
        run.engine.fail_over()
        run.engine.turn()
        run.replace_worker()
        for number in list(run.engine.wakeups):
            run.engine.serve(number, run.serve)
        run.engine.turn()
    return run


WAYS: dict[str, Callable[[Scenario], DurableRun]] = {
    "kept": started,
    "replayed": lambda scenario: started(scenario, kept_runs=0),
    "cut": lambda scenario: started(scenario, kept_runs=0, segment_answers=1),
    "lost": lost_at_every_turn,
}
SUCCEED = [one for one in SCENARIOS if one.raises is None]
FAIL = [one for one in SCENARIOS if one.raises]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scenario", SUCCEED, ids=str)
def test_a_durable_run_gives_what_a_plain_one_gives(scenario: Scenario, way: str) -> None:
    run = WAYS[way](scenario)
    output, messages = run.finish()
    assert (output, comparable(messages), _usage(run.engine.result["usage"])) == expected(scenario)
    completed = [attempt.key for attempt in run.attempts if attempt.outcome == "ok"]
    assert len(completed) == len(set(completed))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scenario", FAIL, ids=str)
def test_a_durable_run_fails_as_a_plain_one_fails(scenario: Scenario, way: str) -> None:
    plain, durably = _error_of(lambda: expected(scenario)), _error_of(lambda: WAYS[way](scenario).finish())
    assert (type(durably), str(durably)) == (type(plain), str(plain))
    assert type(plain).__name__ == scenario.raises


def _error_of(action: Callable[[], Any]) -> Exception | None:
    try:
        action()
    except Exception as error:
        return error
    return None
