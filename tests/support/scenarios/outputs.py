"""Ways in which a run's output comes about."""

from __future__ import annotations

from typing import Any

from pydantic_ai import (
    Agent,
    BinaryImage,
    FilePart,
    ModelRetry,
    NativeOutput,
    PromptedOutput,
    RunContext,
    StructuredDict,
    TextOutput,
    ToolOutput,
)
from pydantic_ai.profiles import ModelProfile

from tests.support.scenarios.scenario import Failure, Weather, durable, scenario, script

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
def output_that_a_validator_sends_back() -> Agent[Any, Any]:
    agent = durable(
        script([("final", {"city": "Bern", "degrees": 99})], [("final", {"city": "Bern", "degrees": 9})]),
        output_type=Weather,
    )

    @agent.output_validator
    async def plausible(ctx: RunContext[Any], output: Weather) -> Weather:
        if output.degrees > 60:
            raise ModelRetry(f"too hot, {ctx.retry}")
        return output

    return agent


@scenario()
def output_of_a_scalar_or_text() -> Agent[Any, Any]:
    return durable(script([("final", {"response": 7})]), output_type=[int, str])


@scenario()
def output_of_a_schema_alone() -> Agent[Any, Any]:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    return durable(script([("final", {"city": "Bern"})]), output_type=StructuredDict(schema, name="place"))


@scenario()
def output_beside_calls_that_are_made_anyway() -> Agent[Any, Any]:
    model = script([("final", {"city": "Bern", "degrees": 1}), ("note", {})])
    agent = durable(model, output_type=Weather, end_strategy="exhaustive")

    @agent.tool_plain
    def note() -> str:
        return "noted"

    return agent


@scenario()
def output_beside_calls_that_are_not_made() -> Agent[Any, Any]:
    model = script([("final", {"city": "Bern", "degrees": 1}), ("note", {})])
    agent = durable(model, output_type=Weather, end_strategy="early")

    @agent.tool_plain
    def note() -> str:
        return "noted"

    return agent


@scenario()
def output_that_is_an_image() -> Agent[Any, Any]:
    image = BinaryImage(b"\x89PNG", media_type="image/png")
    model = script([FilePart(image)], profile=ModelProfile(supports_image_output=True))
    return durable(model, output_type=BinaryImage)
