"""Faults on a deployment of local processes."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil
from pydantic import JsonValue

from chaos.faults.target import NotInjectedError
from chaos.history import Fault
from chaos.record import latest_attempts
from infra.doors import Doors
from infra.local.site import Site, members
from infra.local.supervisor import start_site, status
from infra.manifest import Manifest
from infra.switchover import NotFinished, NotPossible, switch_over

GONE_SECONDS, MID_TOOL_SECONDS = 5.0, 20.0


@dataclass(frozen=True)
class LocalFaults:
    """Kills by process id, and only what belongs to the deployment."""

    manifest: Manifest

    def lose_region(self, region: str, moment: Callable[[], set[str]]) -> Fault:
        """SIGKILL to every process of a region at once, its supervisor first, so that nothing is restarted.

        It strikes when `moment` returns.
        """
        site = self.manifest.regions[region]
        processes = members(site.site, site.directory, self.manifest.directory)
        processes.sort(key=lambda process: process.name() != "process-compose")
        moment()
        at = time.time()
        _kill(processes)
        deadline = at + GONE_SECONDS
        # Some were started while the others were looked for.
        while (late := members(site.site, site.directory, self.manifest.directory)) and time.time() < deadline:
            _kill(late)
            psutil.wait_procs(late, 0.1)
            processes += [process for process in late if process not in processes]
        left: list[JsonValue] = [process.pid for process in late]
        ports = [urlsplit(url).port or 0 for url in (site.api, site.agent, site.patroni)] + [site.postgres_port]
        # A killed process still has its sockets while the kernel takes it down.
        while (listening := [port for port in ports if _listens(port)]) and time.time() < deadline:
            time.sleep(0.05)
        open_ports: list[JsonValue] = list[JsonValue](listening)
        return Fault(
            name="region-loss",
            target=f"region {region}",
            at=at,
            killed=[process.pid for process in processes],
            evidence={"killed": len(processes), "still-running": left, "still-listening": open_ports},
            proven=bool(processes) and not left and not open_ports,
        )

    def return_region(self, region: str) -> None:
        """Power on: start the region's supervisor again. Harmless where it runs."""
        start_site(Site.existing(self.manifest.regions[region].site, self.manifest.directory))

    def crash_worker(self, region: str, moment: Callable[[], set[str]]) -> Fault:
        """SIGKILL to the worker that is in the middle of the most tool calls or model requests.

        It strikes when `moment` returns, and among the workers that this names, if any.
        """
        site = self.manifest.regions[region]
        deadline = time.monotonic() + MID_TOOL_SECONDS
        while time.monotonic() < deadline:
            running = status(site.supervisor_socket) or {}
            workers = {name: running[name].pid for name in site.workers if name in running and running[name].running}
            named = moment() & workers.keys()
            busy = self._in_progress(set(workers.values())) if not named else {}
            victim = workers[min(named)] if named else max(busy, key=lambda pid: len(busy[pid]), default=None)
            if victim is not None:
                try:
                    process = psutil.Process(victim)
                    at = time.time()
                    process.kill()
                except psutil.NoSuchProcess:
                    # It was replaced while the moment was awaited.
                    continue
                gone, _ = psutil.wait_procs([process], GONE_SECONDS)
                cut = self._in_progress({victim}).get(victim, set())
                return Fault(
                    name="worker-crash",
                    target=f"{next(name for name, pid in workers.items() if pid == victim)} of region {region}",
                    at=at,
                    killed=[victim],
                    evidence={"in-progress": list[JsonValue](sorted(cut)), "gone": bool(gone)},
                    proven=bool(cut) and (bool(gone) or not psutil.pid_exists(victim)),
                )
            time.sleep(0.02)
        raise NotInjectedError(
            f"no worker of region {region} was in the middle of an operation for {MID_TOOL_SECONDS:g} s"
        )

    def switch_over(self, to: str) -> Fault:
        """A planned switchover through Patroni."""
        at = time.time()
        with Doors(self.manifest) as doors:
            try:
                moved = switch_over(doors, to)
            except (NotFinished, NotPossible) as error:
                raise NotInjectedError(str(error)) from error
        phases = {phase.name: round(phase.seconds, 3) for phase in moved.phases}
        return Fault(name="switchover", target=f"region {to}", at=at, evidence={"phases": dict(phases)}, proven=True)

    def _in_progress(self, pids: set[int]) -> dict[int, set[str]]:
        """The operations that each process has begun and not ended."""
        found: dict[int, set[str]] = {}
        for attempt in latest_attempts(self.manifest):
            if attempt.pid in pids and not attempt.joined:
                operations = found.setdefault(attempt.pid, set())
                name = f"{attempt.run_id}:{attempt.ordinal}"
                operations.add(name) if attempt.phase == "started" else operations.discard(name)
        return {pid: operations for pid, operations in found.items() if operations}


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.3)
        return probe.connect_ex(("127.0.0.1", port)) == 0
