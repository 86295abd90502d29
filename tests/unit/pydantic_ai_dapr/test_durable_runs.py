"""A durable run says, part by part, what a plain run of the same agent says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, FunctionToolset, ModelRetry, RunContext
from pydantic_ai.exceptions import ModelHTTPError, UnexpectedModelBehavior, UsageLimitExceeded, UserError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai_dapr import DaprDurability, DaprWorkflowAgentRunner, DurableAgents, Retry, current_operation
from pydantic_ai_dapr.agents import AgentHost
from pydantic_ai_dapr.errors import DroppedWorkError

from tests.support.durable_agents import DurableRun, comparable

pytestmark = pytest.mark.unit


class Weather(BaseModel):
    """A structured output."""

    city: str
    degrees: int


@dataclass
class Traveller:
    """Dependencies."""

    name: str
    visits: list[str]


def script(*turns: list[Any]) -> FunctionModel:
    """A model whose n-th request of a run is answered with the n-th turn; `list`s are tool calls."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        made = sum(isinstance(message, ModelResponse) for message in messages)
        parts = [
            TextPart(part)
            if isinstance(part, str)
            else ToolCallPart(info.output_tools[0].name if part[0] == "final" else part[0], part[1])
            for part in turns[made]
        ]
        return ModelResponse(parts=parts)

    return FunctionModel(answer)


def durable(model: FunctionModel, **options: Any) -> Agent[Any, Any]:
    return Agent(model, name="agent", capabilities=[DaprDurability(retry=Retry(attempts=3))], **options)


def sequential_tools() -> Agent[Any, Any]:
    agent = durable(script([("double", {"n": 1})], [("double", {"n": 2})], ["done"]))

    @agent.tool_plain
    def double(n: int) -> int:
        return 2 * n

    return agent


def parallel_tools() -> Agent[Any, Any]:
    agent = durable(script([("slow", {"n": 1}), ("quick", {"n": 2}), ("slow", {"n": 3})], ["done"]))

    @agent.tool_plain
    async def slow(n: int) -> str:
        await asyncio.sleep(0.001)
        return f"slow {n}"

    @agent.tool_plain
    def quick(n: int) -> str:
        return f"quick {n}"

    return agent


def retried_tools() -> Agent[Any, Any]:
    agent = durable(script([("even", {"n": 1})], [("even", {"n": 2})], ["done"]))

    @agent.tool_plain
    def even(n: int) -> int:
        if n % 2:
            raise ModelRetry("an even number, please")
        return n

    return agent


def invalid_arguments() -> Agent[Any, Any]:
    agent = durable(script([("double", {"n": "x"})], [("double", {"n": 3})], ["done"]))

    @agent.tool_plain
    def double(n: int) -> int:
        return 2 * n

    return agent


def structured_output() -> Agent[Any, Any]:
    return durable(script([("final", {"city": "Bern", "degrees": 21})]), output_type=Weather)


def validated_output() -> Agent[Any, Any]:
    agent = durable(
        script([("final", {"city": "Bern", "degrees": 99})], [("final", {"city": "Bern", "degrees": 21})]),
        output_type=Weather,
    )

    @agent.output_validator
    def plausible(output: Weather) -> Weather:
        if output.degrees > 60:
            raise ModelRetry("too hot")
        return output

    return agent


def dependencies_and_context() -> Agent[Any, Any]:
    agent = durable(script([("greet", {})], ["done"]), deps_type=Traveller, instructions="be brief")

    @agent.tool
    def greet(ctx: RunContext[Traveller]) -> str:
        return f"{ctx.deps.name} in {ctx.deps.visits[-1]}, {ctx.tool_name}, step {ctx.run_step}, {ctx.retry} retries"

    @agent.instructions
    def told(ctx: RunContext[Traveller]) -> str:
        return f"speak to {ctx.deps.name}"

    return agent


AGENTS: list[tuple[Callable[[], Agent[Any, Any]], Any]] = [
    (sequential_tools, None),
    (parallel_tools, None),
    (retried_tools, None),
    (invalid_arguments, None),
    (structured_output, None),
    (validated_output, None),
    (dependencies_and_context, Traveller("Ada", ["Bern", "Ulm"])),
]


@pytest.mark.parametrize(("make", "deps"), AGENTS, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("kept_runs", [0, 8])
def test_a_durable_run_equals_a_plain_one(make: Callable[[], Agent[Any, Any]], deps: Any, kept_runs: int) -> None:
    plain = make().run_sync("go", deps=deps)
    output, messages = DurableRun(make(), deps=deps, kept_runs=kept_runs).finish()
    assert output == plain.output
    assert comparable(messages) == comparable(plain.all_messages())


@pytest.mark.parametrize(("make", "deps"), AGENTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_worker_lost_at_every_turn_changes_nothing(make: Callable[[], Agent[Any, Any]], deps: Any) -> None:
    plain = make().run_sync("go", deps=deps)
    run = DurableRun(make(), deps=deps)
    run.engine.turn()
    while not run.engine.ended:
        run.replace_worker()
        run.engine.fail_over()
        run.engine.turn()
        run.replace_worker()
        for number in list(run.engine.wakeups):
            run.engine.serve(number, run.serve)
        run.engine.turn()
    output, messages = run.finish()
    assert output == plain.output
    assert comparable(messages) == comparable(plain.all_messages())
    ended = [attempt.key for attempt in run.attempts if attempt.phase == "ended"]
    assert len(ended) == len(set(ended))


def test_an_operation_knows_its_idempotency_key() -> None:
    agent = durable(script([("note", {})], ["done"]))
    seen: list[str] = []

    @agent.tool_plain
    def note() -> str:
        seen.append(current_operation().key)
        return "noted"

    DurableRun(agent).finish()
    assert seen == ["run-1:2"]
    with pytest.raises(RuntimeError, match="no durable operation is running here"):
        current_operation()


def test_an_agent_works_as_ever_outside_a_workflow() -> None:
    assert sequential_tools().run_sync("go").output == "done"


def test_a_model_request_carries_only_what_is_new() -> None:
    turns = [[("double", {"n": number})] for number in range(30)]
    agent = durable(script(*turns, ["done"]))

    @agent.tool_plain
    def double(n: int) -> str:
        return str(2 * n) * 100

    run = DurableRun(agent, max_iterations=50)
    run.finish()
    requests = [event for event in run.engine.history if event.kind == "scheduled" and event.value["kind"] == "model"]
    sizes = [len(str(event.value)) for event in requests]
    assert len(sizes) == 31
    assert sizes[-1] < 2 * sizes[2]


def test_a_server_that_is_busy_is_asked_again_by_a_durable_timer() -> None:
    answers = iter([ModelHTTPError(429, "m", headers={"retry-after": "30"}), ModelHTTPError(503, "m"), "done"])

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return ModelResponse(parts=[TextPart(found)])

    run = DurableRun(durable(FunctionModel(answer)))
    assert run.finish()[0] == "done"
    timers = [event.value.total_seconds() for event in run.engine.history if event.kind == "timer"]
    assert timers == [30.0, 1.0]
    attempts = [attempt.attempt for attempt in run.attempts if attempt.phase == "ended"]
    assert attempts == [1, 2, 3]


@pytest.mark.parametrize("error", [ModelHTTPError(400, "m", {"error": "bad"}), UnexpectedModelBehavior("odd")])
def test_an_error_that_will_not_pass_fails_the_run_with_its_own_type(error: Exception) -> None:
    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise error

    with pytest.raises(type(error)) as failed:
        DurableRun(durable(FunctionModel(answer))).finish()
    assert str(failed.value) == str(error)


def test_a_model_that_stays_away_fails_the_run_after_the_last_attempt() -> None:
    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise ModelHTTPError(503, "m")

    run = DurableRun(durable(FunctionModel(answer)))
    with pytest.raises(ModelHTTPError, match="503"):
        run.finish()
    assert sum(attempt.phase == "ended" for attempt in run.attempts) == 3


def test_the_number_of_model_requests_is_bounded() -> None:
    agent = durable(script(*[[("again", {})] for _ in range(5)], ["done"]))

    @agent.tool_plain
    def again() -> str:
        return "again"

    with pytest.raises(UsageLimitExceeded):
        DurableRun(agent, max_iterations=3).finish()


def test_a_tools_error_fails_the_run_with_its_cause() -> None:
    agent = durable(script([("breaks", {})], ["done"]))

    @agent.tool_plain
    def breaks() -> str:
        raise ZeroDivisionError("by zero")

    with pytest.raises(ZeroDivisionError, match="by zero"):
        DurableRun(agent).finish()


def test_dependencies_that_cannot_be_carried_are_refused_with_a_remedy() -> None:
    agent = durable(script(["done"]), deps_type=Callable[[], None])
    with pytest.raises(TypeError, match="use a Pydantic model or dataclass of plain data"):
        DurableRun(agent, deps=print)


def test_dependencies_of_a_type_that_nothing_describes_are_refused_only_where_they_are_given() -> None:
    class Connection: ...

    agent = durable(script(["done"]), deps_type=Connection)
    assert DurableRun(agent).finish()[0] == "done"
    with pytest.raises(
        TypeError, match=r"(?s)deps of type Connection can't be carried as JSON.*open connections inside"
    ):
        DurableRun(agent, deps=Connection())


def test_an_agent_without_durability_gets_it() -> None:
    agent = Agent(script([("double", {"number": 21})], ["done"]), name="plain")

    @agent.tool_plain
    def double(number: int) -> int:
        return number * 2

    run = DurableRun(agent)
    output, messages = run.finish()
    assert output == "done"
    assert comparable(messages) == comparable(agent.run_sync("go").all_messages())
    assert [attempt.name for attempt in run.attempts if attempt.phase == "started"] == ["model", "double", "model"]


def add_tripling(agent: Agent[Any, Any], toolset_id: str | None = "late") -> None:
    @agent.toolset(id=toolset_id)
    def late(ctx: RunContext[Any]) -> FunctionToolset[Any]:
        return FunctionToolset([triple])


def triple(n: int) -> int:
    return 3 * n


@pytest.mark.parametrize(
    "host", [DaprWorkflowAgentRunner[Any, Any], lambda agent, port: DurableAgents([agent], port=port)]
)
def test_a_toolset_may_be_added_until_its_host_starts(host: Callable[..., AgentHost]) -> None:
    agent = durable(script(["done"]))
    hosting, registered = host(agent, port=1), list[str]()
    add_tripling(agent)
    hosting.host_on(
        SimpleNamespace(
            register_activity=lambda activity, name: registered.append(name),
            register_workflow=lambda workflow, name: None,
        )
    )
    hosting.shutdown()
    assert "agent__dynamic_toolset__late.call_tool" in registered


def test_a_toolset_that_is_added_later_is_refused_with_a_remedy() -> None:
    agent = durable(script([("triple", {"n": 1})], ["done"]))
    run = DurableRun(agent)
    add_tripling(agent)
    with pytest.raises(UserError, match=r"late.* cannot be added at runtime.*Pass them to the agent constructor"):
        run.finish()
    run.stop()


def test_a_toolset_without_an_id_is_refused_before_anything_runs() -> None:
    agent = durable(script(["done"]))
    add_tripling(agent, None)
    with pytest.raises(UserError, match=r"unique `id`"):
        DurableRun(agent)


def test_a_durable_agent_needs_a_name() -> None:
    with pytest.raises(ValueError, match="pass name="):
        DaprWorkflowAgentRunner(Agent(script(["done"])))


def test_what_a_tool_returns_is_in_the_messages() -> None:
    _, messages = DurableRun(sequential_tools()).finish()
    returned = [part.content for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
    assert returned == [2, 4]


def note(text: str) -> str:
    """Keep it."""
    return text


def test_what_a_long_run_sends_to_its_model_grows_with_its_length_alone() -> None:
    sent: dict[int, int] = {}
    for steps in (20, 40):
        agent = durable(script(*([("note", {"text": f"{number:04}" * 100})] for number in range(steps)), ["done"]))
        agent.tool_plain(note)
        run = DurableRun(agent, max_iterations=100, segment_answers=10)
        assert run.finish()[0] == "done"
        assert run.engine.executions >= steps / 10
        inputs = [event.value for event in run.engine.earlier + run.engine.history if event.kind == "scheduled"]
        sent[steps] = sum(len(str(value)) for value in inputs)
    assert sent[40] < 2.1 * sent[20]


def test_a_turn_that_was_lost_is_repeated_and_its_answer_belongs_to_nobody() -> None:
    run = DurableRun(sequential_tools())
    run.engine.turn()
    lost = run.engine.wakeups[1]
    run.engine.lose_turn()
    run.replace_worker()
    run.engine.turn()
    assert run.engine.wakeups[1].value != lost.value
    with pytest.raises(DroppedWorkError):
        run.deliver(lost)
    assert run.finish()[0] == "done"
    assert [one.ordinal for one in run.attempts if one.phase == "ended"] == [1, 2, 3, 4, 5]
