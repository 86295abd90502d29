"""What a Patroni member says of itself."""

from __future__ import annotations

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError


class Member(BaseModel):
    """A database node. `timeline` grows at every promotion: it is the epoch."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: str
    state: str
    timeline: int | None = None
    replication_state: str | None = None
    sync_standby: bool = False
    leads: bool = True
    dcs_last_seen: int | None = None
    """When its Patroni last reached the lease store, in Unix seconds; a primary renewed the lease then."""

    @property
    def is_primary(self) -> bool:
        """Whether the node accepts writes now, and holds the lease: one that was promoted past Patroni does not."""
        return self.role in ("primary", "master") and self.state == "running" and self.leads

    @property
    def is_standby(self) -> bool:
        """Whether the node says that it is not the primary."""
        return self.role not in ("primary", "master")

    @property
    def is_stopping(self) -> bool:
        """Whether the node is being shut down, as at the beginning of a switchover: it saves nothing any more."""
        return self.state in ("stopping", "stopped")

    @property
    def is_streaming(self) -> bool:
        """Whether the node follows a primary at this moment."""
        return self.is_standby and self.replication_state == "streaming"


async def read_member(client: httpx.AsyncClient, url: str) -> Member | None:
    """The member at `url`, or None where it doesn't answer in time or answers something else."""
    try:
        # It tells the same as /patroni, and by its status whether the node is primary and holds the lease.
        response = await client.get(f"{url}/primary")
        member = Member.model_validate_json(response.content)
        return member.model_copy(update={"leads": response.is_success})
    except (httpx.HTTPError, ValidationError):
        return None


async def answers(client: httpx.AsyncClient, url: str) -> bool:
    """Whether anything at `url` answers; every status counts as life."""
    try:
        await client.get(url)
    except httpx.HTTPError:
        return False
    return True
