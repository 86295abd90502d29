"""Dapr's workflow engine by its own SDK, without an agent: two empty activities a step. `on_engine.py GRPC_PORT`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from contest import serve
from dapr.conf import settings
from dapr.ext.workflow import DaprWorkflowClient, DaprWorkflowContext, WorkflowRuntime

CONCURRENCY = 100


def model(ctx: object, number: int) -> int:
    return number


def tool(ctx: object, number: int) -> int:
    return number


def counting(ctx: DaprWorkflowContext, steps: int) -> Generator[Any, Any, str]:
    for number in range(steps):
        yield ctx.call_activity(model, input=number)
        yield ctx.call_activity(tool, input=number)
    return f"counted to {steps}"


async def main(port: str) -> None:
    settings.DAPR_API_TOKEN = os.environ["DAPR_API_TOKEN"]
    runtime = WorkflowRuntime(
        host="127.0.0.1",
        port=port,
        maximum_concurrent_activity_work_items=CONCURRENCY,
        maximum_concurrent_orchestration_work_items=CONCURRENCY,
        maximum_thread_pool_workers=CONCURRENCY,
    )
    runtime.register_activity(model)
    runtime.register_activity(tool)
    runtime.register_workflow(counting)
    runtime.start()
    client = DaprWorkflowClient(host="127.0.0.1", port=port)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(CONCURRENCY + 8))

    async def run(prompt: str) -> str:
        run_id = await asyncio.to_thread(client.schedule_new_workflow, counting, input=int(prompt.split()[0]))
        ended = await asyncio.to_thread(client.wait_for_workflow_completion, run_id, timeout_in_seconds=600)
        return str(ended and ended.serialized_output).strip('"')

    await serve(run)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
