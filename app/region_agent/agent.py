"""One region's agent: follows the database's role, and looks after runs or after the other region accordingly."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
from run_index import Epochs, IndexUnavailableError, RunIndex

from region_agent.activation import ActivationError, RegionProcesses
from region_agent.config import AgentConfig
from region_agent.etcd import LeaseStore, QuorumUnreachableError
from region_agent.events import EventLog
from region_agent.pairs import Pairs
from region_agent.patroni import Member, read_member
from region_agent.peer import PeerWatch
from region_agent.rejoin import Rejoin
from region_agent.reminders import Reminders
from region_agent.role import ASKED_SECONDS, LEASE_MARGIN_SECONDS, UNCLEAR_SECONDS, Role, RoleFile, Wanted, wanted_role
from region_agent.supervisor import SupervisorError
from region_agent.sweep import Sweeper, Swept

log = logging.getLogger(__name__)
AGAIN_SECONDS = 0.5


@dataclass
class RegionAgent:
    """Active exactly while the database is primary and has the lease. A restarted agent takes up the role it finds."""

    config: AgentConfig
    local: httpx.AsyncClient
    processes: RegionProcesses
    peer: PeerWatch
    lease: LeaseStore
    rejoin: Rejoin
    index: RunIndex
    epochs: Epochs
    make_sweeper: Callable[[], Sweeper]
    pairs: Pairs
    reminders: Reminders
    role_file: RoleFile
    events: EventLog
    member: Member | None = None
    role: Role | None = None
    sweeper: Sweeper | None = None
    _watches: list[asyncio.Task[None]] = field(default_factory=list["asyncio.Task[None]"])
    _unclear_since: float | None = None
    _next_look: float = field(default=0.0)

    async def run(self) -> None:
        """Follow the database until cancelled."""
        self.role = self.role_file.read()
        self.events.record("agent-started", role=self.role.role if self.role else None)
        settled = False
        while True:
            await self._observe()
            wanted = await self._wanted()
            try:
                settled = await self._follow(wanted, settled)
            except (SupervisorError, ActivationError, IndexUnavailableError) as error:
                log.error("not %s yet: %s", wanted.role, error)
                self.events.record("transition-failed", wanted=wanted.role, error=str(error)[:300])
                settled = False
                if wanted.role == "active":
                    self.role = self.role_file.read()
                await asyncio.sleep(AGAIN_SECONDS)
            for watch in self._watches:
                if watch.done():
                    watch.result()  # an agent that no longer watches must not go on as if it did
            await self._look_at_peer(wanted)
            await asyncio.sleep(self.config.poll_seconds)

    async def _observe(self) -> None:
        before = self.member
        self.member = await read_member(self.local, self.config.patroni)
        if self.member and (
            before is None or (before.role, before.timeline) != (self.member.role, self.member.timeline)
        ):
            self.events.record("database-role", role=self.member.role, timeline=self.member.timeline)

    async def _wanted(self) -> Wanted:
        """The database's role; where that is unclear for a while, all but a standby ask lease store and database."""
        wanted = wanted_role(self.member)
        if wanted.role != "unclear":
            self._unclear_since = None
            return wanted
        now = time.monotonic()
        self._unclear_since = self._unclear_since or now
        if self.role is None or self.role.role == "standby" or now - self._unclear_since < UNCLEAR_SECONDS:
            return wanted
        with contextlib.suppress(TimeoutError):
            if await asyncio.wait_for(self._may_write(), ASKED_SECONDS):
                return Wanted("active", self.role.epoch)
        return Wanted("standby", self.role.epoch)

    async def _may_write(self) -> bool:
        """Whether the lease is this region's for a while yet, and its database a primary that answers.

        A primary whose Patroni stands still does not know that its lease has run out, and takes writes.
        """
        try:
            left = await self.lease.seconds_left(self.config.region)
        except QuorumUnreachableError:
            return False
        return left > LEASE_MARGIN_SECONDS and await asyncio.to_thread(self.index.is_writable)

    async def _follow(self, wanted: Wanted, settled: bool) -> bool:
        """Change the role where the database's has changed; whether role and processes agree now."""
        if wanted.role == "active":
            if self.role and (self.role.role, self.role.epoch) == ("active", wanted.epoch):
                if self.reminders.are_lost():
                    # What is in hand ends first: an operation that is issued again must not run beside itself.
                    self.events.record("reminders-lost", epoch=wanted.epoch)
                    await self._deactivate(wanted.epoch)
                elif settled:
                    return True
            await self._activate(wanted.epoch)
            return True
        if wanted.role == "standby":
            if settled and self.role and self.role.role == "standby":
                if wanted.epoch > self.role.epoch:
                    self.role = self.role_file.write("standby", wanted.epoch)
                return True
            # A database that is being stopped doesn't tell its timeline.
            await self._deactivate(wanted.epoch or (self.role.epoch if self.role else 0))
            return True
        return settled

    async def _activate(self, epoch: int) -> None:
        before = self.role
        if before is None or before.epoch != epoch:
            self.events.record("promoted", epoch=epoch)
        self._stop_watching()
        began = datetime.now(UTC)
        schema = asyncio.create_task(asyncio.to_thread(self.index.ensure_schema))
        self.role = await self.processes.activate(epoch)
        life = self.reminders.begin(epoch)
        await schema
        self.events.record("role-changed", **{"from": before.role if before else None, "to": "active", "epoch": epoch})
        self.peer.rest()
        self.sweeper = self.make_sweeper()
        self._watches = [
            asyncio.create_task(self._sweep_and_watch(self.sweeper, epoch, life, began)),
            asyncio.create_task(self.pairs.watch()),
        ]

    async def _deactivate(self, epoch: int) -> None:
        before = self.role
        self._stop_watching()
        self.role = await self.processes.deactivate(epoch)
        self.events.record("role-changed", **{"from": before.role if before else None, "to": "standby", "epoch": epoch})

    async def _sweep_and_watch(self, sweeper: Sweeper, epoch: int, life: str, began: datetime) -> None:
        swept: Swept | None = None
        while not self.reminders.are_swept(life):
            try:
                swept = await sweeper.sweep(epoch, life)
                self.reminders.note_swept(life)
            except IndexUnavailableError as error:
                self.events.record("sweep-failed", error=str(error))
                await asyncio.sleep(AGAIN_SECONDS)
        # After the sweep, and beside the watch: no run waits for a record that is for readers.
        self._watches.append(asyncio.create_task(self._record_epoch(epoch, began, swept)))
        await sweeper.watch()

    async def _record_epoch(self, epoch: int, began: datetime, swept: Swept | None) -> None:
        while True:
            try:
                await asyncio.to_thread(self.epochs.record, epoch, self.config.region, began)
                if swept is not None:
                    await asyncio.to_thread(self.epochs.record_sweep, epoch, swept.runs, swept.seconds)
                return
            except IndexUnavailableError as error:
                log.warning("epoch %s is not recorded yet: %s", epoch, error)
                await asyncio.sleep(AGAIN_SECONDS)

    def _stop_watching(self) -> None:
        for watch in self._watches:
            watch.cancel()
        self._watches = []
        if self.sweeper is not None:
            self.sweeper.close()
            self.sweeper = None

    async def _look_at_peer(self, wanted: Wanted) -> None:
        is_standby = self.role is not None and self.role.role == "standby"
        if not is_standby or wanted.role == "active":
            return
        if time.monotonic() >= self._next_look:
            pause = await self.peer.look(self.member)
            self._next_look = time.monotonic() + pause

    async def close(self) -> None:
        """Stop watching; processes stay as they are, for the agent that comes next."""
        self._stop_watching()
        with contextlib.suppress(Exception):
            self.index.close()
