"""The agent under PydanticAI's integration with Temporal: `on_temporal.py HOST:PORT`."""

import asyncio
import sys
import time
import uuid
from datetime import timedelta

from temporalio import workflow
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from contest import UNLIMITED, counting_agent, serve
    from pydantic_ai.durable_exec.temporal import PydanticAIPlugin, PydanticAIWorkflow, TemporalDurability

agent = counting_agent(
    capabilities=[TemporalDurability(activity_config={"start_to_close_timeout": timedelta(seconds=60)})]
)


@workflow.defn
class Counting(PydanticAIWorkflow):
    __pydantic_ai_agents__ = (agent,)

    @workflow.run
    async def run(self, prompt: str) -> str:
        return (await agent.run(prompt, usage_limits=UNLIMITED)).output


async def until_known(client: Client) -> None:
    """The server's parts learn of a new namespace one after the other."""
    deadline = time.monotonic() + 60
    while True:
        try:
            await client.count_workflows()
            return
        except RPCError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.5)


async def main(address: str) -> None:
    client = await Client.connect(address, plugins=[PydanticAIPlugin()])
    day = timedelta(days=1)
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=client.namespace, workflow_execution_retention_period=day)
    )
    await until_known(client)
    async with Worker(client, task_queue="contest", workflows=[Counting]):

        async def run(prompt: str) -> str:
            return await client.execute_workflow(Counting.run, prompt, id=uuid.uuid4().hex, task_queue="contest")

        await serve(run)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
