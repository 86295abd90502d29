"""Makes the region active or standby: the order of steps, each of which may be repeated."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx
from pydantic import BaseModel, ConfigDict

from region_agent.config import AgentConfig, SidecarProcess
from region_agent.events import EventLog
from region_agent.role import Role, RoleFile
from region_agent.supervisor import Processes

READY_SECONDS = 15.0
OTHERS_SECONDS = 1.0
LOOK_SECONDS = 0.03
FRESH = "fresh"


class ActivationError(Exception):
    """A step of the activation did not come to its end in time."""


class _Workflows(BaseModel):
    model_config = ConfigDict(extra="ignore")
    connectedWorkers: int = 0  # Dapr's name


class _Metadata(BaseModel):
    model_config = ConfigDict(extra="ignore")
    workflows: _Workflows = _Workflows()


@dataclass
class RegionProcesses:
    """The region's role file, scheduler and sidecars."""

    config: AgentConfig
    supervisor: Processes
    role_file: RoleFile
    events: EventLog
    dapr: httpx.AsyncClient
    """Speaks to the sidecars' HTTP ports, with their API token."""

    async def activate(self, epoch: int) -> Role:
        """Execute runs under `epoch`: returns once sidecars have workers. Raises ActivationError, SupervisorError."""
        began = time.monotonic()
        # Before anything that may take time: warm workers begin to look for their sidecars.
        self.role_file.write("activating", epoch)
        if self._scheduler_epoch() != str(epoch):
            if self._scheduler_epoch() != FRESH:
                await self._wipe_scheduler()
            self._marker.write_text(str(epoch), encoding="utf-8")
        await self.supervisor.start(self.config.scheduler.process)
        await asyncio.gather(*(self.supervisor.start(process) for process in self._working))
        await self._workers()
        role = self.role_file.write("active", epoch)
        self.events.record("activated", epoch=epoch, seconds=round(time.monotonic() - began, 3))
        return role

    async def deactivate(self, epoch: int) -> Role:
        """Stop work at once, and leave a scheduler without a past. Workers leave when they read the role."""
        role = self.role_file.write("standby", epoch)
        await asyncio.gather(*(self.supervisor.stop(process) for process in self._working))
        await self._wipe_scheduler()
        self.events.record("deactivated", epoch=epoch)
        return role

    @property
    def _working(self) -> list[str]:
        """What runs only while the region is active."""
        return [*(sidecar.process for sidecar in self.config.sidecars), *self.config.also]

    @property
    def _marker(self):
        return self.config.scheduler.data_dir.with_name("scheduler.epoch")

    def _scheduler_epoch(self) -> str | None:
        try:
            return self._marker.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    async def _wipe_scheduler(self) -> None:
        """A reminder of an earlier epoch would run a completed activity again; `recover` replaces them all."""
        scheduler = self.config.scheduler
        await self.supervisor.stop(scheduler.process)
        if scheduler.data_dir.exists():
            shutil.rmtree(scheduler.data_dir)
            self.events.record("scheduler-wiped")
        self._marker.write_text(FRESH, encoding="utf-8")
        await self.supervisor.start(scheduler.process)

    async def _workers(self) -> None:
        """Return when every sidecar has a worker, or some time after the first: later ones join by themselves.

        A sidecar that joins while runs move makes Dapr hold all of them, and drop calls that are under way.
        """
        looks = [asyncio.ensure_future(self._worker_at(sidecar)) for sidecar in self.config.sidecars]
        try:
            await asyncio.wait(looks, return_when=asyncio.FIRST_COMPLETED)
            if any(look.done() and look.result() for look in looks):
                await asyncio.wait(looks, timeout=OTHERS_SECONDS)
            elif not any(await asyncio.gather(*looks)):
                raise ActivationError(f"no sidecar had a worker within {READY_SECONDS:g} s; see the logs of the region")
        finally:
            for look in looks:
                look.cancel()

    async def _worker_at(self, sidecar: SidecarProcess) -> bool:
        url = f"http://127.0.0.1:{sidecar.http_port}/v1.0"
        if not await _until(lambda: self._answers(f"{url}/healthz/outbound")):
            return False
        self.events.record("sidecar-ready", process=sidecar.process)
        if not await _until(lambda: self._has_worker(f"{url}/metadata")):
            return False
        self.events.record("worker-ready", process=sidecar.process)
        return True

    async def _answers(self, url: str) -> bool:
        try:
            return (await self.dapr.get(url)).is_success
        except httpx.HTTPError:
            return False

    async def _has_worker(self, url: str) -> bool:
        try:
            return _Metadata.model_validate_json((await self.dapr.get(url)).content).workflows.connectedWorkers > 0
        except (httpx.HTTPError, ValueError):
            return False


async def _until(condition: Callable[[], Awaitable[bool]]) -> bool:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if await condition():
            return True
        await asyncio.sleep(LOOK_SECONDS)
    return False
