"""Which code the workers of a local deployment run: each names it in its configuration."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from chaos.faults.local.processes import Processes
from chaos.faults.target import NotInjectedError, NotLiftedError, Place, Struck
from infra.manifest import Manifest

READY_SECONDS = 45.0
POLL_SECONDS = 0.05
READY = (b"executing runs in epoch", b"warm, waiting for the region")
"""What a worker says once it has loaded its code: in the active region, and in the standby."""


@dataclass(frozen=True)
class Releases:
    """Changes what workers host, and restarts one after the other: the next when the last is ready."""

    manifest: Manifest
    processes: Processes

    def deploy(self, place: Place, agent: str) -> Struck:
        """Every worker of the region hosts that agent. Raises NotInjectedError."""
        at, ready = time.time(), list[str]()
        for worker in self.manifest.regions[place].workers:
            file, before = self._files(place, worker)
            if not before.exists():
                before.write_bytes(file.read_bytes())
            configuration = json.loads(before.read_bytes()) | {"agent": agent}
            if self._restart(place, worker, json.dumps(configuration, indent=1).encode()):
                ready.append(worker)
        missing = sorted(set(self.manifest.regions[place].workers) - set(ready))
        if missing:
            raise NotInjectedError(f"{', '.join(missing)} of {place} did not come up with {agent}; see its log")
        return Struck(at, {"agent": agent, "workers": len(ready)}, bool(ready))

    def withdraw(self, place: Place) -> None:
        """Every worker hosts what it hosted before. Raises NotLiftedError."""
        for worker in self.manifest.regions[place].workers:
            _, before = self._files(place, worker)
            if before.exists():
                if not self._restart(place, worker, before.read_bytes()):
                    raise NotLiftedError(f"{worker} of {place} did not come up with its own code; see its log")
                before.unlink()

    def _files(self, place: Place, worker: str) -> tuple[Path, Path]:
        """A worker's configuration, and where the one before is kept."""
        file = self.manifest.regions[place].directory / "config" / f"{worker}.json"
        return file, file.with_suffix(".before")

    def _restart(self, place: Place, worker: str, configuration: bytes) -> bool:
        """Whether the worker was ready in time, with that configuration."""
        log = self.manifest.regions[place].directory / "logs" / f"{worker}.log"
        self.processes.stop(place, "worker", {worker})
        self._files(place, worker)[0].write_bytes(configuration)
        said = log.stat().st_size if log.exists() else 0
        self.processes.start(place, "worker", {worker})
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if log.exists() and any(line in log.read_bytes()[said:] for line in self._awaited(place)):
                return True
            time.sleep(POLL_SECONDS)
        return False

    def _awaited(self, place: Place) -> tuple[bytes, ...]:
        """In the active region a worker is ready once it executes runs."""
        return READY[:1] if self.processes.is_active(place) else READY
