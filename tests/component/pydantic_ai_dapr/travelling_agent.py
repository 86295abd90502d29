"""An agent with the tools of an MCP server that its sidecar calls, and the worker process that executes it."""

from __future__ import annotations

import sys
import threading

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, RetryPromptPart, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai_dapr import DaprWorkflowAgentRunner, MCPServerToolset

NAME = "travelling"
CALLS = [
    ToolCallPart("forecast", {"city": "Rome"}),
    ToolCallPart("forecast", {"city": "Oslo"}),
    ToolCallPart("extremes", {}),
    ToolCallPart("broken", {"city": "Atlantis"}),
]


def _answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    told = [part for one in messages for part in one.parts if isinstance(part, ToolReturnPart | RetryPromptPart)]
    if len(told) < len(CALLS):
        return ModelResponse(parts=[CALLS[len(told)]])
    offered = sorted(tool.name for tool in info.function_tools)
    return ModelResponse(parts=[TextPart(f"{offered}: {[part.content for part in told]}")])


def runner(port: int, token: str) -> DaprWorkflowAgentRunner[None, str]:
    agent = Agent(FunctionModel(_answer), name=NAME, toolsets=[MCPServerToolset("weather")])
    return DaprWorkflowAgentRunner(agent, port=port, api_token=token)


def main(port: str, token: str) -> None:
    """A worker, until it is killed."""
    runner(int(port), token).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
