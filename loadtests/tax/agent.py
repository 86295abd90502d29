"""The agent that the regions host while they are measured: model and tool answer at once.

The services import this module alone, and nothing heavy before the agent is built.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from pydantic_ai import Agent


class Counting(BaseModel):
    """So many steps, each one model request and one tool call."""

    steps: int


@dataclass(frozen=True)
class Hosted:
    """Names the agent, its typed input, and builds it on demand."""

    name: str = "counting"
    input_type: type[Counting] = Counting

    def build_agent(self, **_: Any) -> Agent[Counting, str]:
        """An agent that calls its tool as often as it is told, and then ends."""
        from pydantic_ai import Agent
        from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, UserPromptPart
        from pydantic_ai.models.function import AgentInfo, FunctionModel
        from pydantic_ai_dapr import DaprDurability

        async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            parts = [part for message in messages for part in message.parts]
            steps = int(next(str(part.content) for part in parts if isinstance(part, UserPromptPart)))
            done = sum(isinstance(message, ModelResponse) for message in messages)
            if done < steps:
                return ModelResponse(parts=[ToolCallPart("count", {"number": done}, tool_call_id=f"count-{done}")])
            return ModelResponse(parts=[TextPart(f"counted to {steps}")])

        agent = Agent(FunctionModel(answer), name=self.name, deps_type=Counting, capabilities=[DaprDurability()])

        @agent.tool_plain
        async def count(number: int) -> int:
            """One step's tool."""
            return number

        return agent

    def warm_up(self) -> None:
        """Import what `build_agent` needs."""
        importlib.import_module("pydantic_ai.models.function")
        importlib.import_module("pydantic_ai_dapr")

    def prompt(self, value: Counting) -> str:
        """The prompt of a run."""
        return str(value.steps)

    def deps(self, value: Counting) -> Counting:
        """The dependencies of a run."""
        return value


hosted = Hosted()
