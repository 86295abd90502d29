"""The agent under `diagrid`'s runner: `on_diagrid.py GRPC_PORT HTTP_PORT`.

The runner asks OpenAI's client itself, whatever model the agent has: that client is replaced by one that answers at
once. It asks again and again whether a workflow has ended: a single run often enough not to be what is measured, many
at once as seldom as it does by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import uuid
from types import SimpleNamespace
from typing import Any

import grpc
import openai
from contest import counting_agent, serve
from dapr.conf import settings
from dapr.ext.workflow import DaprWorkflowClient, WorkflowState
from diagrid.agent.pydantic_ai import DaprWorkflowAgentRunner

OWN_INTERVAL = 0.5


class Completions:
    def create(self, messages: list[dict[str, Any]], **_: Any) -> SimpleNamespace:
        steps = int(next(message["content"] for message in messages if message["role"] == "user").split()[0])
        done = sum(message["role"] == "assistant" for message in messages)
        calls = None
        if done < steps:
            function = SimpleNamespace(name="count", arguments=f'{{"number": {done}}}')
            calls = [SimpleNamespace(id=f"count-{done}", function=function)]
        content = None if calls else f"counted to {steps}"
        message = SimpleNamespace(content=content, tool_calls=calls, role="assistant")
        return SimpleNamespace(choices=[SimpleNamespace(message=message, finish_reason="stop")], usage=None)


def asked_again(client: DaprWorkflowClient, *arguments: Any, **options: Any) -> WorkflowState | None:
    """The sidecar reads a state in two steps, and refuses where the workflow went on in between."""
    for _ in range(20):
        with contextlib.suppress(grpc.RpcError):
            return get_state(client, *arguments, **options)
    return get_state(client, *arguments, **options)


get_state, DaprWorkflowClient.get_workflow_state = DaprWorkflowClient.get_workflow_state, asked_again
openai.OpenAI = lambda *_, **__: SimpleNamespace(chat=SimpleNamespace(completions=Completions()))


async def main(port: str, http_port: str) -> None:
    # It looks for components by a client of its own, which waits for the sidecar's health.
    settings.DAPR_GRPC_PORT, settings.DAPR_HTTP_PORT = port, http_port
    # An agent without a prompt of its own can't be started: a method is then taken for the prompt.
    agent = counting_agent(system_prompt="Count.")
    runner = DaprWorkflowAgentRunner(agent, name="diagrid", port=port, max_iterations=1000)
    runner.start()

    running = 0

    async def run(prompt: str) -> str:
        nonlocal running
        running += 1
        try:
            interval = min(OWN_INTERVAL, 0.05 * running)
            async for event in runner.run_async(prompt, session_id=uuid.uuid4().hex, poll_interval=interval):
                if event["type"] == "workflow_completed":
                    return event["final_response"]
                last = event
        finally:
            running -= 1
        raise RuntimeError(f"ended with {last}")

    await serve(run)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
