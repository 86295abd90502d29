"""What the agent knows, for people (`/status`, `/cluster`), and one thing that it does.

That is to have the lease handed over to the other region (`/switchover`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from hmac import compare_digest
from typing import Annotated

from fastapi import FastAPI, Header
from pydantic import BaseModel
from serving import Problem, harden

from region_agent.agent import RegionAgent
from region_agent.handover import Cluster, Handover, read_cluster
from region_agent.patroni import Member
from region_agent.role import Role


class EarlyRelease(BaseModel):
    """Whether the lease may be released early, what was decided how often, and last."""

    enabled: bool
    silent_seconds: float
    decisions: dict[str, int]
    last: str | None


class Status(BaseModel):
    """One region, as its agent sees it."""

    region: str
    role: str
    epoch: int | None
    since: datetime | None
    patroni: Member | None
    open_runs: int
    runs_swept: int
    stuck: list[str]
    early_release: EarlyRelease


def status_of(agent: RegionAgent) -> Status:
    """The agent's state at this moment."""
    role, sweeper, peer = agent.role, agent.sweeper, agent.peer
    return Status(
        region=agent.config.region,
        role=role.role if role else "unknown",
        epoch=role.epoch if role else None,
        since=role.since if role else None,
        patroni=agent.member,
        open_runs=sweeper.open_count if sweeper else 0,
        runs_swept=sweeper.swept_total if sweeper else 0,
        stuck=sorted(sweeper.stuck) if sweeper else [],
        early_release=EarlyRelease(
            enabled=agent.config.early_release.enabled,
            silent_seconds=peer.silence.seconds(time.monotonic()),
            decisions=dict(peer.decisions),
            last=peer.last_decision,
        ),
    )


class HandedOver(BaseModel):
    """Where the lease is going."""

    candidate: str


def build_app(
    agent: RegionAgent,
    token: str,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
    operator_token: str | None = None,
    metrics_token: str | None = None,
) -> FastAPI:
    """The agent's interface, for callers who hold `token`; to hand the lease over takes `operator_token` too.

    `metrics_token` opens `/metrics`, and what is below it, alone.
    """
    app = FastAPI(title="Region agent", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    harden(app, token=token, max_body_bytes=1000, public_paths=("/healthz",), metrics_token=metrics_token)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:  # pyright: ignore[reportUnusedFunction]
        return {"status": "ok"}

    @app.get("/status")
    async def status() -> Status:  # pyright: ignore[reportUnusedFunction]
        return status_of(agent)

    @app.get("/role")
    async def role() -> Role:  # pyright: ignore[reportUnusedFunction]
        """What the role file says, for those who can't read it: it is ahead of `/status` while a region activates."""
        written = agent.role_file.read()
        if written is None:
            raise Problem(503, "unavailable", "the region has no role yet; try again")
        return written

    @app.get("/cluster")
    async def cluster() -> Cluster:  # pyright: ignore[reportUnusedFunction]
        seen = await read_cluster(agent.local, agent.config.patroni)
        if seen is None:
            raise Problem(503, "unavailable", "the region's Patroni doesn't answer; try again")
        return seen

    handover = Handover(agent.config, agent.local, agent.events)

    @app.post("/switchover", status_code=202)
    async def switchover(operator: Annotated[str, Header(alias="Holdfast-Operator")] = "") -> HandedOver:  # pyright: ignore[reportUnusedFunction]
        if operator_token is None or not compare_digest(operator.encode(), operator_token.encode()):
            raise Problem(403, "forbidden", "a switchover takes the operator's token, in Holdfast-Operator")
        return HandedOver(candidate=await handover.begin(agent.role))

    return app
