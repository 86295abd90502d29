"""The agent alone: nothing of it survives a crash."""

import asyncio

from contest import UNLIMITED, counting_agent, serve

agent = counting_agent()


async def run(prompt: str) -> str:
    return (await agent.run(prompt, usage_limits=UNLIMITED)).output


asyncio.run(serve(run))
