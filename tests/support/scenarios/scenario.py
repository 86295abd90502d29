"""What a scenario is, and what its agents are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.profiles import ModelProfile
from pydantic_ai_dapr import DaprDurability, Retry

Made = Callable[[], Agent[Any, Any]]


@dataclass(frozen=True, eq=False)
class Scenario:
    """An agent, and what it is run with, as PydanticAI takes it and as it is carried; `raises` where the run fails."""

    make: Made
    plain: dict[str, Any] = field(default_factory=dict)
    wire: dict[str, Any] = field(default_factory=dict)
    deps: Any = None
    prompt: Any = "go"
    raises: str | None = None

    @property
    def feature(self) -> str:
        """What of an agent it is about: the module that it is in."""
        return self.make.__module__.rpartition(".")[2]

    def __str__(self) -> str:
        return self.make.__name__


SCENARIOS: list[Scenario] = []


def scenario(**options: Any) -> Callable[[Made], Made]:
    """Adds what it decorates to the scenarios."""

    def add(make: Made) -> Made:
        SCENARIOS.append(Scenario(make, **options))
        return make

    return add


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
    """An agent with the capability that makes it durable."""
    capabilities = [DaprDurability(retry=Retry(attempts=3)), *options.pop("capabilities", [])]
    return Agent(model, name="agent", capabilities=capabilities, **options)
