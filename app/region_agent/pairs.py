"""A worker and its sidecar fail together.

A sidecar of Dapr 1.18 that has lost its worker leaves the placement table only when each call that it serves has
ended, and such a call may wait for that worker, or for actors that the sidecar has given up already: then neither
ends, and no run that placement sends there moves. A sidecar whose process has ended is out of the table at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from region_agent.config import SidecarProcess
from region_agent.events import EventLog
from region_agent.supervisor import Supervisor, SupervisorError

LOOK_SECONDS = 0.02
SAVING_SECONDS = 0.1
"""What a sidecar gets to save what it had in hand. An answer that is lost here is asked for again elsewhere."""
UNKNOWN_SECONDS = 0.5
"""How often the supervisor is asked for a worker that doesn't run."""


@dataclass
class Pairs:
    """While watched, the sidecar of a worker that dies is killed; the supervisor starts both again."""

    sidecars: list[SidecarProcess]
    supervisor: Supervisor
    events: EventLog
    alive: Callable[[int], bool] = field(default=lambda pid: _alive(pid))
    kill: Callable[[int, int], None] = field(default=os.kill)

    async def watch(self) -> None:
        """Watch until cancelled."""
        known: dict[str, int] = {}
        dead: list[SidecarProcess] = []
        while True:
            for sidecar in self.sidecars:
                if sidecar.worker in known and not self.alive(known[sidecar.worker]):
                    del known[sidecar.worker]
                    dead.append(sidecar)
            try:
                if dead:
                    await self._end(dead)
                    dead = []
                if len(known) < len(self.sidecars):
                    running = await self.supervisor.running()
                    # One that is known stays so, or its death in the meantime would go unnoticed.
                    known = {s.worker: running[s.worker] for s in self.sidecars if s.worker in running} | known
            except SupervisorError as error:
                self.events.record("pairs-unknown", error=str(error)[:200])
            await asyncio.sleep(LOOK_SECONDS if len(known) == len(self.sidecars) else UNKNOWN_SECONDS)

    async def _end(self, dead: list[SidecarProcess]) -> None:
        await asyncio.sleep(SAVING_SECONDS)
        running = await self.supervisor.running()
        for sidecar in dead:
            pid = running.get(sidecar.process)
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    self.kill(pid, signal.SIGKILL)
            self.events.record("sidecar-ended", process=sidecar.process, worker=sidecar.worker)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
