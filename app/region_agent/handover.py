"""The database's nodes as the lease store has them, and the planned handing over of the lease to the other region."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError
from serving import Problem

from region_agent.config import AgentConfig
from region_agent.events import EventLog
from region_agent.role import Role

HAND_OVER_SECONDS = 60.0


class Node(BaseModel):
    """A database node, named after its region. `lag` is in bytes, or unknown."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    role: str
    state: str
    timeline: int | None = None
    lag: int | str | None = None

    @property
    def can_take_over(self) -> bool:
        """Whether it has every acknowledged change."""
        return self.role == "sync_standby" and self.state in ("streaming", "running")


class Lease(BaseModel):
    """How long the lease lasts without being renewed, and how often it is, in seconds."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    ttl: int
    loop_wait: int


class Cluster(BaseModel):
    """Every database node, and the lease that one of them holds: `holder` is its region."""

    nodes: list[Node]
    lease: Lease | None
    holder: str | None


class _Members(BaseModel):
    members: list[Node]


async def read_cluster(client: httpx.AsyncClient, url: str) -> Cluster | None:
    """What the region's own Patroni knows, or None where it doesn't answer in time."""
    try:
        members, config = await asyncio.gather(client.get(f"{url}/cluster"), client.get(f"{url}/config"))
        nodes = _Members.model_validate_json(members.content).members
    except (httpx.HTTPError, ValidationError):
        return None
    try:
        lease = Lease.model_validate_json(config.content)
    except ValidationError:
        lease = None
    holder = next((node.name for node in nodes if node.role in ("leader", "primary", "master")), None)
    return Cluster(nodes=nodes, lease=lease, holder=holder)


@dataclass
class Handover:
    """Asks Patroni to hand the lease over, one request at a time. Nothing is promoted here: Patroni does that."""

    config: AgentConfig
    client: httpx.AsyncClient
    events: EventLog
    _asking: asyncio.Task[None] | None = field(default=None)

    async def begin(self, role: Role | None) -> str:
        """The region that takes over, once Patroni is being asked. Raises Problem where no change could be kept."""
        region = self.config.region
        if role is None or role.role != "active":
            raise Problem(409, "not active", f"region {region} is {role.role if role else 'unknown'}; nothing to do")
        if self._asking is not None and not self._asking.done():
            raise Problem(409, "under way", "the lease is being handed over already")
        cluster = await read_cluster(self.client, self.config.patroni)
        if cluster is None or cluster.holder != region:
            raise Problem(503, "unavailable", f"Patroni doesn't say that region {region} holds the lease; try again")
        standby = next((node for node in cluster.nodes if node.name == self.config.peer_region), None)
        if standby is None or not standby.can_take_over:
            seen = f"{standby.role}, {standby.state}" if standby else "not there"
            raise Problem(
                409,
                "not possible",
                f"the database of region {self.config.peer_region} is no synchronous, streaming standby "
                f"(it is {seen}): what it lacks would be lost; wait until it has caught up",
            )
        self._asking = asyncio.create_task(self._ask(standby.name))
        return standby.name

    async def _ask(self, candidate: str) -> None:
        body = {"leader": self.config.region, "candidate": candidate}
        self.events.record("switchover-asked", **body)
        try:
            answer = await self.client.post(f"{self.config.patroni}/switchover", json=body, timeout=HAND_OVER_SECONDS)
            told = f"{answer.status_code}: {answer.text.strip()[:300]}"
        except httpx.HTTPError as error:
            told = type(error).__name__
        self.events.record("switchover-answered", answer=told)
