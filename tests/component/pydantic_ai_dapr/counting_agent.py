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


def build(step_seconds: float) -> Agent[int, str]:
    """Counts to `deps`, then says so."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        counted = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
        if len(counted) < STEPS:
            return ModelResponse(parts=[ToolCallPart("count", {"number": len(counted) + 1})])
        return ModelResponse(parts=[TextPart(f"counted to {sum(1 for _ in counted)}")])

    agent = Agent(FunctionModel(answer), deps_type=int, name=NAME, capabilities=[DaprDurability()])

    @agent.tool_plain
    def count(number: int) -> int:
        time.sleep(step_seconds)
        return number

    return agent


def runner(port: int, token: str, step_seconds: float, on_attempt: Any = None) -> DaprWorkflowAgentRunner[int, str]:
    return DaprWorkflowAgentRunner(build(step_seconds), name=NAME, port=port, api_token=token, on_attempt=on_attempt)


def main(port: str, token: str, step_seconds: str, attempts: str) -> None:
    """A worker: writes every attempt down, until it is killed."""
    lock = threading.Lock()

    def write(attempt: Attempt) -> None:
        with lock, Path(attempts).open("a") as file:
            file.write(json.dumps(asdict(attempt)) + "\n")

    runner(int(port), token, float(step_seconds), write).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
