"""The agent under PydanticAI's integration with DBOS: `on_dbos.py DATABASE_URL`."""

import asyncio
import sys

from contest import UNLIMITED, count, counting_agent, serve
from dbos import DBOS, DBOSConfig
from pydantic_ai.durable_exec.dbos import DBOSDurability

url = sys.argv[1]
DBOS(config=DBOSConfig(name="contest", system_database_url=url, run_admin_server=False, log_level="ERROR"))
# A tool is durable here where it is a step of its own.
agent = counting_agent(DBOS.step()(count), capabilities=[DBOSDurability()])


@DBOS.workflow()
async def counting(prompt: str) -> str:
    return (await agent.run(prompt, usage_limits=UNLIMITED)).output


async def run(prompt: str) -> str:
    handle = await DBOS.start_workflow_async(counting, prompt)
    return await handle.get_result()


async def main() -> None:
    DBOS.launch()
    await serve(run)


asyncio.run(main())
