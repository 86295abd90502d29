"""Which model answers, and how it is asked."""

from __future__ import annotations

from typing import Any

from pydantic_ai import Agent, ConcurrencyLimitedModel
from pydantic_ai.capabilities import ModelFallback, ResolveModelId, SelectModel
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RequestUsage, UsageLimits
from pydantic_ai_dapr import DaprDurability

from tests.support.scenarios.scenario import durable, scenario, script


async def away(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    raise ModelHTTPError(404, "first")


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
    return durable(FallbackModel(FunctionModel(away), script(["from the second"])))


@scenario(raises="ModelHTTPError")
def a_model_that_refuses() -> Agent[Any, Any]:
    async def refuses(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise ModelHTTPError(400, "m", {"why": "bad"})

    return durable(FunctionModel(refuses))


@scenario(plain={"model": "other"}, wire={"model": "other"})
def another_model_for_one_run() -> Agent[Any, Any]:
    durability = DaprDurability(models={"other": script(["from the other"])})
    return Agent(script(["from the first"]), name="agent", capabilities=[durability])


@scenario(raises="FallbackExceptionGroup")
def models_that_all_refuse() -> Agent[Any, Any]:
    return durable(FallbackModel(FunctionModel(away), FunctionModel(away)))


@scenario()
def a_capability_that_falls_back() -> Agent[Any, Any]:
    second = script(["from the second"])
    durability = DaprDurability(models={"second": second})
    return Agent(FunctionModel(away), name="agent", capabilities=[durability, ModelFallback("second")])


@scenario()
def a_model_that_is_chosen_for_each_step() -> Agent[Any, Any]:
    durability = DaprDurability(models={"other": script([], ["from the other"])})
    select = SelectModel(lambda ctx: "other" if ctx.run_step > 0 else None)
    agent = Agent(script([("noop", {})]), name="agent", capabilities=[durability, select])

    @agent.tool_plain
    def noop() -> None:
        return None

    return agent


@scenario(plain={"model": "mine"}, wire={"model": "mine"})
def a_model_whose_name_is_resolved() -> Agent[Any, Any]:
    mine = script(["mine"])
    resolve = ResolveModelId(lambda ctx, name: mine if name == "mine" else None)
    return durable(script(["from the first"]), capabilities=[resolve])


@scenario()
def a_model_that_is_limited() -> Agent[Any, Any]:
    return durable(ConcurrencyLimitedModel(script(["done"]), 1))


@scenario()
def a_model_that_calls_every_tool() -> Agent[Any, Any]:
    agent = durable(TestModel())

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        return a + b

    return agent


@scenario()
def an_answer_that_is_continued() -> Agent[Any, Any]:
    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        begun = isinstance(messages[-1], ModelResponse)
        return ModelResponse(
            parts=[TextPart("second" if begun else "first ")], state="complete" if begun else "suspended"
        )

    return durable(FunctionModel(answer))


class Counting(FunctionModel):
    """A model that counts tokens ahead of a request."""

    async def count_tokens(self, messages: Any, model_settings: Any, model_request_parameters: Any) -> RequestUsage:
        return RequestUsage(input_tokens=1000)


@scenario(
    plain={"usage_limits": UsageLimits(input_tokens_limit=10, count_tokens_before_request=True)},
    wire={"usage_limits": {"input_tokens_limit": 10, "count_tokens_before_request": True}},
    raises="UsageLimitExceeded",
)
def tokens_that_are_counted_before() -> Agent[Any, Any]:
    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart("done")])

    return durable(Counting(answer))
