"""The agent under `pydantic_ai_dapr`: `on_dapr.py GRPC_PORT KEPT_RUNS`; the sidecar's token is in the environment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from typing import Any

import psutil
from contest import ASKS, QUESTION, count, counting_agent, serve, waiting
from pydantic_ai.tools import Tool
from pydantic_ai_dapr import DaprWorkflowAgentRunner, WaitForApproval, WorkflowUnavailableError

STEPS = 100_000
PARKED_STEPS = 3


def confirm() -> str:
    """What a person has to allow."""
    return "confirmed"


async def main(port: int, kept_runs: int) -> None:
    agent = counting_agent(count, Tool(confirm, requires_approval=True), capabilities=[WaitForApproval()])
    runner = DaprWorkflowAgentRunner(
        agent,
        port=port,
        api_token=os.environ["DAPR_API_TOKEN"],
        max_iterations=STEPS,
        kept_runs=kept_runs,
    )
    runner.start()

    async def run(prompt: str) -> str:
        return (await runner.run(prompt)).output

    async def named(run_id: str, steps: int) -> dict[str, Any]:
        """One run under that id."""
        await runner.run(f"{steps} of run 0", run_id=run_id, timeout=600)
        return {}

    async def park(runs: int, steps: int = PARKED_STEPS) -> dict[str, Any]:
        """Start runs until so many wait for a person; the ids are `parked-N`."""
        ids = [f"parked-{number}" for number in range(len(waiting), runs)]
        for first in range(0, len(ids), 50):
            prompts = [(run_id, f"{steps}{ASKS} of {run_id}") for run_id in ids[first : first + 50]]
            await asyncio.gather(*(asyncio.to_thread(runner.schedule, text, run_id=run_id) for run_id, text in prompts))
        while len(waiting) < runs:  # noqa: ASYNC110  # who asks has a deadline
            await asyncio.sleep(0.1)
        return await memory()

    async def ask(run_id: str, steps: int) -> dict[str, Any]:
        """Start a run of so many steps under that id; it then waits for a person."""
        prompt = f"{steps}{ASKS} of {run_id}"
        await asyncio.to_thread(runner.schedule, prompt, run_id=run_id)
        while prompt not in waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return {}

    async def approve(run_id: str, attempts: int = 20) -> None:
        """As a person would: again, where the sidecar was too busy."""
        for _ in range(attempts - 1):
            with contextlib.suppress(WorkflowUnavailableError):
                return await asyncio.to_thread(runner.client.approve, run_id, QUESTION)
        return await asyncio.to_thread(runner.client.approve, run_id, QUESTION)

    async def release(run_ids: list[str]) -> dict[str, Any]:
        """Allow what these runs wait for: seconds until the last has ended, and how many completed."""
        began = time.perf_counter()
        await asyncio.gather(*(approve(run_id) for run_id in run_ids))
        ended = await asyncio.gather(*(runner.handle(run_id).wait(600) for run_id in run_ids), return_exceptions=True)
        failed = [str(one) for one in ended if isinstance(one, BaseException)]
        return {"seconds": time.perf_counter() - began, "completed": len(ended) - len(failed), "failed": failed[:3]}

    async def memory() -> dict[str, Any]:
        return {"resident": psutil.Process().memory_info().rss}

    await serve(run, named=named, ask=ask, park=park, release=release, memory=memory)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
