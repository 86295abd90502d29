"""A workflow with steps of its own around two runs of a counting agent, and the worker process that executes it."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Generator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from dapr.ext.workflow import DaprWorkflowContext, WorkflowActivityContext, WorkflowRuntime
from pydantic_ai_dapr import Attempt, DurableAgents

from tests.component.pydantic_ai_dapr import counting_agent

WORKFLOW = "order"


def main(port: str, token: str, step_seconds: str, attempts: str) -> None:
    """A worker: writes every attempt and every step of the workflow's own down, until it is killed."""
    lock = threading.Lock()

    def write(line: dict[str, object]) -> None:
        with lock, Path(attempts).open("a") as file:
            file.write(json.dumps(line) + "\n")

    def on_attempt(attempt: Attempt) -> None:
        write(asdict(attempt))

    agent = counting_agent.build(float(step_seconds))
    agents = DurableAgents([agent], port=port, api_token=token, on_attempt=on_attempt)
    runtime = WorkflowRuntime(host="127.0.0.1", port=port)

    @runtime.activity(name="look_up")
    def look_up(ctx: WorkflowActivityContext, number: int) -> str:
        write({"phase": "own", "key": f"look_up {number}"})
        return f"order {number}"

    @runtime.workflow(name="half")
    def half(ctx: DaprWorkflowContext, number: int) -> Any:
        yield ctx.create_timer(timedelta(0))
        return number // 2

    @runtime.workflow(name=WORKFLOW)
    def order(ctx: DaprWorkflowContext, number: int) -> Generator[Any, Any, Any]:
        found = yield ctx.call_activity(look_up, input=number)
        first = yield from agents.run(ctx, lambda: agent.run(found, deps=3))
        fewer = yield ctx.call_child_workflow(half, input=number)
        second = yield from agents.run(ctx, lambda: agent.run(f"{first.output}; {fewer}", deps=3))
        last = yield ctx.call_activity(look_up, input=fewer)
        return [found, first.output, second.output, second.usage.requests, last]

    agents.start(runtime)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
