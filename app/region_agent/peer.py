"""Watches the active region from the standby, and releases its lease when everybody agrees that it is gone."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from region_agent.config import AgentConfig
from region_agent.etcd import LeaseStore, QuorumUnreachableError
from region_agent.events import EventLog
from region_agent.lease_release import LeaseView, ObserverView, OwnView, Reason, decide
from region_agent.patroni import Member, answers
from region_agent.silence import Silence

CALM_SECONDS, SUSPICIOUS_SECONDS = 0.4, 0.15


class Sighting(BaseModel):
    """What the observer says of one region."""

    model_config = ConfigDict(frozen=True)
    silent_seconds: float


class Observations(BaseModel):
    """What the observer says. `boot_id` changes when it is restarted."""

    model_config = ConfigDict(frozen=True)
    boot_id: str
    targets: dict[str, Sighting]


@dataclass
class PeerWatch:
    """Looks while this region is standby. `links` reaches the other region and the witness with short timeouts."""

    config: AgentConfig
    links: httpx.AsyncClient
    lease: LeaseStore
    events: EventLog
    silence: Silence = field(default_factory=Silence)
    decisions: Counter[str] = field(default_factory=Counter[str])
    last_decision: Reason | None = None
    _was_streaming: bool = False
    _boot_id: str | None = None
    _logged: Reason | None = None

    async def look(self, own: Member | None) -> float:
        """One look at the other region; returns the seconds until the next. `own` is this region's database."""
        heard = await asyncio.gather(
            answers(self.links, f"{self.config.peer_patroni}/liveness"),
            answers(self.links, f"{self.config.peer_etcd}/health"),
        )
        now = time.monotonic()
        was_silent = self.silence.since
        self.silence.observe(any(heard), now)
        if any(heard):
            if was_silent is not None:
                self.events.record("silence-ended", of=self.config.peer_region)
            self._was_streaming = own is not None and own.is_streaming
            self._boot_id = self._logged = None
            return CALM_SECONDS
        if was_silent is None:
            self.events.record("silence-began", of=self.config.peer_region, was_streaming=self._was_streaming)
            self._boot_id = await self._observer_boot_id()
        if self.silence.seconds(now) >= self.config.early_release.silence_seconds:
            await self._decide(now)
        return SUSPICIOUS_SECONDS

    def rest(self) -> None:
        """Forget what was seen: this region is not standby now."""
        self.silence, self._was_streaming, self._logged = Silence(), False, None

    async def _decide(self, now: float) -> None:
        early = self.config.early_release
        own = OwnView(
            enabled=early.enabled,
            region=self.config.region,
            active=self.config.peer_region,
            was_streaming=self._was_streaming,
            silent_seconds=self.silence.seconds(now),
        )
        observer = await self._observer()
        lease = await self._lease()
        reason = decide(own, observer, lease, early.silence_seconds)
        if reason == "released":
            assert lease is not None
            deleted = False
            try:
                deleted = await self.lease.delete_leader(lease.leader, lease.sync)
                reason = "released" if deleted else "overtaken"
            except QuorumUnreachableError:
                reason = "no-quorum"
        self._note(reason, lease, own.silent_seconds)

    def _note(self, reason: Reason, lease: LeaseView | None, silent: float) -> None:
        self.last_decision = reason
        if reason == self._logged:
            return
        self._logged = reason
        self.decisions[reason] += 1
        self.events.record(
            "early-release",
            decision="released" if reason == "released" else "refused",
            reason=reason,
            silent_seconds=round(silent, 3),
            leader_revision=lease.leader.mod_revision if lease else None,
            sync_revision=lease.sync.mod_revision if lease else None,
        )

    async def _observations(self) -> Observations | None:
        try:
            response = await self.links.get(f"{self.config.observer}/observations")
            return Observations.model_validate_json(response.content)
        except (httpx.HTTPError, ValidationError):
            return None

    async def _observer_boot_id(self) -> str | None:
        seen = await self._observations()
        return seen.boot_id if seen else None

    async def _observer(self) -> ObserverView | None:
        seen = await self._observations()
        if seen is None or self.config.peer_region not in seen.targets:
            return None
        return ObserverView(
            silent_seconds=seen.targets[self.config.peer_region].silent_seconds,
            same_observer=seen.boot_id == self._boot_id,
        )

    async def _lease(self) -> LeaseView | None:
        try:
            return LeaseView(leader=await self.lease.read("leader"), sync=await self.lease.read("sync"))
        except QuorumUnreachableError:
            return None
