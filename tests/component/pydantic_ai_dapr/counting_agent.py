"""An agent that counts, one slow step after the other, and the worker process that executes it."""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai_dapr import Attempt, DaprDurability, DaprWorkflowAgentRunner

NAME = "counting"
STEPS = 6


def build(step_seconds: float, steps: int = STEPS) -> Agent[int, str]:
    """Counts to `steps`, then says so."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        last = messages[-1].parts[-1]
        counted = int(last.content) if isinstance(last, ToolReturnPart) else 0
        if counted < steps:
            return ModelResponse(parts=[ToolCallPart("count", {"number": counted + 1})])
        return ModelResponse(parts=[TextPart(f"counted to {counted}")])

    agent = Agent(FunctionModel(answer), deps_type=int, name=NAME, capabilities=[DaprDurability()])

    @agent.tool_plain
    def count(number: int) -> int:
        time.sleep(step_seconds)
        return number

    return agent


def runner(
    port: int, token: str, step_seconds: float, on_attempt: Any = None, steps: int = STEPS
) -> DaprWorkflowAgentRunner[int, str]:
    options: Any = {"port": port, "api_token": token, "on_attempt": on_attempt, "max_iterations": steps + 1}
    return DaprWorkflowAgentRunner(build(step_seconds, steps), name=NAME, **options)


def main(port: str, token: str, step_seconds: str, attempts: str, steps: str = str(STEPS)) -> None:
    """A worker: writes every attempt down, until it is killed."""
    lock = threading.Lock()

    def write(attempt: Attempt) -> None:
        with lock, Path(attempts).open("a") as file:
            file.write(json.dumps(asdict(attempt)) + "\n")

    runner(int(port), token, float(step_seconds), write, int(steps)).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
