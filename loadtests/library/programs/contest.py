"""The agent that every contender runs, and the lines by which it is asked to. Needs PydanticAI alone.

A program is asked on standard input, one JSON object a line: `{"call": "many", "runs": 100, "steps": 6}`; it
answers each with one line on standard output. What libraries print goes to standard error.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolCallPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import UsageLimits

Run = Callable[[str], Awaitable[str]]
"""Runs the agent with a prompt to its end, durably, and gives its output."""
Call = Callable[..., Awaitable[dict[str, Any]]]

UNLIMITED = UsageLimits(request_limit=None)
"""For a run: by default it ends with an error after 50 requests."""
ASKS = "?"
"""After the number of a prompt: then ask a person before the end."""
QUESTION = "question"
waiting: set[str] = set()
"""The prompts of the runs that have asked."""


async def count(number: int) -> int:
    """One step's tool: as quick as can be."""
    return number


async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """One step's model: as quick as can be. It asks for the tool as often as the prompt's first word says."""
    prompt = prompt_of(messages)
    word = prompt.split()[0]
    done = sum(isinstance(message, ModelResponse) for message in messages)
    steps = int(word.removesuffix(ASKS))
    if done < steps:
        return ModelResponse(parts=[ToolCallPart("count", {"number": done}, tool_call_id=f"count-{done}")])
    if done == steps and word.endswith(ASKS):
        waiting.add(prompt)
        return ModelResponse(parts=[ToolCallPart("confirm", {}, tool_call_id=QUESTION)])
    return ModelResponse(parts=[TextPart(f"counted to {steps}")])


def counting_agent(*tools: Any, **arguments: Any) -> Agent[None, str]:
    """The agent, with those tools instead of `count` alone; the other arguments are Agent's."""
    return Agent(FunctionModel(answer), name="counting", tools=tools or (count,), **arguments)


async def one(run: Run, steps: int) -> dict[str, Any]:
    """One run of so many steps: seconds from its start to its result."""
    return await many(run, 1, steps)


async def many(run: Run, runs: int, steps: int) -> dict[str, Any]:
    """So many runs at once: seconds from the first start to the last result."""
    began = time.perf_counter()
    outputs = await asyncio.gather(*(run(f"{steps} of run {number}") for number in range(runs)))
    seconds = time.perf_counter() - began
    wrong = [output for output in outputs if output != f"counted to {steps}"]
    if wrong:
        raise RuntimeError(f"{len(wrong)} of {runs} runs ended otherwise, the first with {wrong[0]!r}")
    return {"seconds": seconds}


async def serve(run: Run, **calls: Call) -> None:
    """Answer until standard input ends. A call that fails answers with its error."""

    async def run_one(steps: int) -> dict[str, Any]:
        return await one(run, steps)

    async def run_many(runs: int, steps: int) -> dict[str, Any]:
        return await many(run, runs, steps)

    known: dict[str, Call] = {"one": run_one, "many": run_many, **calls}
    _say({"ready": True})
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        try:
            _say(await known[request.pop("call")](**request))
        except Exception as error:
            _say({"error": f"{type(error).__name__}: {error}"})


def prompt_of(messages: list[ModelMessage]) -> str:
    """What the user said first."""
    request = messages[0]
    assert isinstance(request, ModelRequest)
    return next(str(part.content) for part in request.parts if isinstance(part, UserPromptPart))


_answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


def _say(reply: dict[str, Any]) -> None:
    _answers.write(json.dumps(reply) + "\n")
