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
from region_agent.supervisor import Processes, SupervisorError

LOOK_SECONDS = 0.02
SAVING_SECONDS = 0.1
"""What a sidecar gets to save what it had in hand. An answer that is lost here is asked for again elsewhere."""
UNKNOWN_SECONDS = 0.5
"""How often the supervisor is asked for a worker that doesn't run."""


@dataclass
class Pairs:
    """While watched, who survives its other half is ended; the supervisor starts both again.

    A worker without its sidecar would go on with what the other workers are given meanwhile.
    """

    sidecars: list[SidecarProcess]
    supervisor: Processes
    events: EventLog
    alive: Callable[[int], bool] = field(default=lambda pid: _alive(pid))
    kill: Callable[[int, int], None] = field(default=os.kill)

    async def watch(self) -> None:
        """Watch until cancelled."""
        known: dict[str, int] = {}
        gone: dict[str, int] = {}
        bereft: list[SidecarProcess] = []
        names = {name for pair in self.sidecars for name in (pair.process, pair.worker)}
        while True:
            for pair in self.sidecars:
                worker, sidecar = known.get(pair.worker), known.get(pair.process)
                lost_worker = worker is not None and not self.alive(worker)
                lost_sidecar = sidecar is not None and not self.alive(sidecar)
                if lost_sidecar and worker is not None and not lost_worker:
                    self._end_worker(pair, worker)
                if lost_worker or lost_sidecar:
                    # Of the one that is left the end is no news: it is about to be ended.
                    gone |= {name: known.pop(name) for name in (pair.worker, pair.process) if name in known}
                if lost_worker:
                    bereft.append(pair)
            try:
                if bereft:
                    await self._end_sidecars(bereft)
                    bereft = []
                if known.keys() < names:
                    running = await self.supervisor.running()
                    # One that is known stays so, or its death in the meantime would go unnoticed.
                    news = {name: running[name] for name in names & running.keys() if running[name] != gone.get(name)}
                    known = news | known
            except SupervisorError as error:
                self.events.record("pairs-unknown", error=str(error)[:200])
            await asyncio.sleep(LOOK_SECONDS if known.keys() == names else UNKNOWN_SECONDS)

    def _end_worker(self, pair: SidecarProcess, worker: int) -> None:
        """Asked, not killed: it says of what it has in hand that it goes no further."""
        with contextlib.suppress(ProcessLookupError):
            self.kill(worker, signal.SIGTERM)
        self.events.record("worker-ended", process=pair.process, worker=pair.worker)

    async def _end_sidecars(self, bereft: list[SidecarProcess]) -> None:
        await asyncio.sleep(SAVING_SECONDS)
        running = await self.supervisor.running()
        for pair in bereft:
            pid = running.get(pair.process)
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    self.kill(pid, signal.SIGKILL)
            self.events.record("sidecar-ended", process=pair.process, worker=pair.worker)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
