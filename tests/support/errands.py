"""An agent of a deployment's own: it takes steps, or waits for somebody. A file beside it says which code it has.

The services import this module alone, so it uses nothing of the tests.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults
from pydantic_ai_dapr import DaprDurability, WaitForApproval, patched
from pydantic_ai_dapr.run import current_run

CODE = Path(__file__).with_name("code")


class Errand(BaseModel):
    """So many steps, and then perhaps one that somebody has to allow within so many seconds."""

    steps: int = 0
    asks: bool = False
    patience: float = 3600.0


class PatientAsTold(WaitForApproval):
    """Waits for as long as the errand says."""

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[Any], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        waits = WaitForApproval(timedelta(seconds=ctx.deps.patience))
        return await waits.handle_deferred_tool_calls(ctx, requests=requests)


def scripted(latency_seconds: float) -> FunctionModel:
    """Calls one tool after the other, and then says what came of them."""

    async def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        await asyncio.sleep(latency_seconds)
        parts = [part for message in messages for part in message.parts]
        prompt = next(part.content for part in parts if isinstance(part, UserPromptPart))
        errand = Errand.model_validate_json(str(prompt))
        answers = [str(part.content) for part in parts if isinstance(part, ToolReturnPart)]
        if len(answers) < errand.steps:
            return ModelResponse(parts=[ToolCallPart("step", {"number": len(answers)})])
        if errand.asks and len(answers) == errand.steps:
            return ModelResponse(parts=[ToolCallPart("deliver", {}, tool_call_id="deliver")])
        return ModelResponse(parts=[TextPart(f"{errand.steps} steps, {answers[-1]}")])

    return FunctionModel(respond)


@dataclass(frozen=True)
class HostedErrands:
    """Names the agent and its input, and builds it on demand."""

    name: str = "errands"
    input_type: type[Errand] = Errand

    def build_agent(self, *, model: str, model_latency_seconds: float, effects: object) -> Agent[Errand, str]:
        code = CODE.read_text(encoding="utf-8").strip() if CODE.exists() else "first"
        waits = [DaprDurability(), PatientAsTold()]
        agent = Agent(scripted(model_latency_seconds), name=self.name, deps_type=Errand, capabilities=waits)

        @agent.instructions
        async def look_around() -> str:  # pyright: ignore[reportUnusedFunction]
            if code == "other" or (code == "patched" and patched("look-around")):
                run = current_run.get()
                assert run is not None
                await run.call("pydantic_ai_dapr.ask", lambda: {})
            return "Do as you are told."

        @agent.tool_plain
        def step(number: int) -> str:  # pyright: ignore[reportUnusedFunction]
            return f"step {number} taken"

        @agent.tool_plain(requires_approval=True)
        def deliver() -> str:  # pyright: ignore[reportUnusedFunction]
            return "delivered"

        return agent

    def warm_up(self) -> None:
        """Everything is imported already."""

    def prompt(self, errand: Errand) -> str:
        return errand.model_dump_json()

    def deps(self, errand: Errand) -> Errand:
        return errand


hosted = HostedErrands()
