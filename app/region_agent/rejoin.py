"""Has a standby's database copied anew where nothing else makes it follow the lease's holder again.

A database that was promoted past Patroni is on a timeline of its own. `pg_rewind` knows timelines by checkpoints (up
to PostgreSQL 15), and of a promotion whose checkpoint was not yet over it says that there is nothing to rewind.
Patroni takes that for success, and the database waits for ever for a timeline that nobody has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from region_agent.config import AgentConfig
from region_agent.events import EventLog
from region_agent.handover import read_cluster
from region_agent.patroni import Member
from region_agent.silence import Silence

ASTRAY_SECONDS = 10.0
"""How long a database must have been astray without a break: Patroni rewinds within a few of its rounds, if at all."""
LOOK_SECONDS = 0.5


@dataclass
class Rejoin:
    """Looks at this region's database while it is a standby. Patroni alone copies, and never to the lease's holder."""

    config: AgentConfig
    client: httpx.AsyncClient
    events: EventLog
    timeline: Callable[[], int | None]
    """What the database itself says: Patroni remembers the timeline that it followed before."""
    _astray: Silence = field(default_factory=Silence)

    async def watch(self, member: Callable[[], Member | None]) -> None:
        """Look until cancelled, beside everything else: nobody waits for this."""
        while True:
            await self.look(member())
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self, own: Member | None) -> None:
        """One look; asks Patroni to copy the holder's database once this one has been astray for long.

        Astray is a standby that runs, follows nobody, and is on a timeline ahead of the holder's: nobody was promised
        what only it has. Where Patroni refuses, it is asked again as long afterwards.
        """
        ahead = await self._ahead(own)
        now = time.monotonic()
        self._astray.observe(not ahead, now)
        if self._astray.seconds(now) < ASTRAY_SECONDS:
            return
        self._astray = Silence()
        try:
            answer = await self.client.post(f"{self.config.patroni}/reinitialize", json={"from_leader": True})
            told = f"{answer.status_code}: {answer.text.strip()[:300]}"
        except httpx.HTTPError as error:
            told = type(error).__name__
        self.events.record("database-astray", **ahead, answer=told)

    async def _ahead(self, own: Member | None) -> dict[str, int]:
        """Both timelines where this database has left the holder's behind; nothing where it is not astray."""
        if own is None or not own.is_standby or own.state != "running" or own.is_streaming:
            return {}
        cluster = await read_cluster(self.client, self.config.patroni)
        holder = next((node for node in cluster.nodes if node.name == cluster.holder), None) if cluster else None
        if holder is None or holder.name == self.config.region or holder.state != "running" or holder.timeline is None:
            return {}
        mine = await asyncio.to_thread(self.timeline)
        return {"timeline": mine, "holders": holder.timeline} if mine is not None and mine > holder.timeline else {}
