"""Processes of a local deployment: found by what they are, and only where they belong to it."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from pydantic import JsonValue

from chaos.faults.target import Moment, NotLiftedError, Part, Place, Struck, at_once
from infra.local.errors import PartError
from infra.local.site import Site, members
from infra.local.supervisor import ask, start_site, status, stop_site
from infra.manifest import Manifest
from infra.status import SOCKET

GONE_SECONDS, STOP_SECONDS, START_SECONDS = 5.0, 30.0, 30.0
POLL_SECONDS = 0.02
ONLY_WHERE_ACTIVE: frozenset[Part] = frozenset({"scheduler", "sidecar"})
_SUPERVISED: dict[Part, str] = {"patroni": "postgres", "database": "postgres", "lease-store": "etcd"}
"""The supervisor's names where they differ. PostgreSQL is Patroni's child."""
_COMING = ("Restarting", "Launching", "Pending")


@dataclass(frozen=True)
class Processes:
    """Kills, freezes, stops and starts by process id and through the supervisor of each place."""

    manifest: Manifest

    def running(self, place: Place, part: Part) -> dict[str, int]:
        """The supervised processes of a part that run, by the supervisor's names."""
        seen = status(self._directory(place) / SOCKET) or {}
        return {name: seen[name].pid for name in self._names(place, part) if name in seen and seen[name].running}

    def kill(self, place: Place, part: Part, only: Collection[str] = (), moment: Moment = at_once) -> Struck:
        """SIGKILL, the supervisor first where everything goes, so that nothing is restarted."""
        processes = self._found(place, part, only)
        moment()
        at = time.time()
        _signal(processes, signal.SIGKILL)
        if part == "everything":
            return self._all_gone(place, at, processes)
        gone = _all(processes, lambda process: not process.is_running() or _state(process) == psutil.STATUS_ZOMBIE)
        evidence: dict[str, JsonValue] = {"killed": len(processes), "gone": gone}
        return Struck(at, evidence, bool(processes) and gone, killed=[process.pid for process in processes])

    def freeze(self, place: Place, part: Part, only: Collection[str] = (), moment: Moment = at_once) -> Struck:
        """SIGSTOP, the supervisor first; all of them are in state T afterwards."""
        processes = self._found(place, part, only)
        moment()
        at = time.time()
        _signal(processes, signal.SIGSTOP)
        deadline = time.monotonic() + GONE_SECONDS
        # Some were started while the others were looked for.
        while part == "everything" and time.monotonic() < deadline:
            late = [one for one in self._found(place, part) if one not in processes]
            if not late:
                break
            _signal(late, signal.SIGSTOP)
            processes += late
        stopped = _all(processes, lambda process: _state(process) == psutil.STATUS_STOPPED)
        evidence: dict[str, JsonValue] = {"frozen": len(processes), "state-T": stopped}
        return Struck(at, evidence, bool(processes) and stopped, frozen=[process.pid for process in processes])

    def resume(self, place: Place, part: Part) -> None:
        """SIGCONT to all that is frozen at the place: the supervisor knows nothing of who it was."""
        site = self._directory(place)
        frozen = [one for one in members(site.name, site, self.manifest.directory) if _frozen(one)]
        _signal(frozen, signal.SIGCONT)
        if not _all(frozen, lambda process: not _frozen(process)):
            still = [process.pid for process in frozen if _frozen(process)]
            raise NotLiftedError(f"processes {still} of {site.name} are frozen still after SIGCONT")

    def stop(self, place: Place, part: Part, only: Collection[str] = ()) -> Struck:
        """Through the supervisor, which ends a process that doesn't stop in its time."""
        at, processes = time.time(), self._found(place, part, only)
        if part == "everything":
            stop_site(self._site(place))
        names = set(only or self._names(place, part))
        deadline = time.monotonic() + STOP_SECONDS
        while part != "everything" and (coming := self._up_or_coming(place, names)) and time.monotonic() < deadline:
            for name in coming & self.running(place, part).keys():
                with contextlib.suppress(PartError):
                    ask(self._directory(place) / SOCKET, "PATCH", f"/process/stop/{name}", timeout=STOP_SECONDS)
            time.sleep(POLL_SECONDS)
        gone = _all(processes, lambda process: not process.is_running(), STOP_SECONDS)
        down = not self._up_or_coming(place, names)
        evidence: dict[str, JsonValue] = {"stopped": len(processes), "gone": gone, "stays-down": down}
        return Struck(at, evidence, gone and down, killed=[process.pid for process in processes])

    def start(self, place: Place, part: Part, only: Collection[str] = ()) -> None:
        """Through the supervisor, or, where that is gone, by starting it."""
        if status(self._directory(place) / SOCKET) is None:
            start_site(self._site(place))
        if part in ONLY_WHERE_ACTIVE and not self.is_active(place):
            return
        deadline = time.monotonic() + START_SECONDS
        names = set(only or self._names(place, part))
        while missing := names - self.running(place, part).keys():
            for name in missing:
                # What the supervisor is about to start again by itself it refuses to start.
                with contextlib.suppress(PartError, OSError):
                    ask(self._directory(place) / SOCKET, "POST", f"/process/start/{name}")
            if time.monotonic() > deadline:
                raise NotLiftedError(f"{', '.join(sorted(missing))} of {place} did not start in {START_SECONDS:g} s")
            time.sleep(POLL_SECONDS * 5)

    def _up_or_coming(self, place: Place, names: set[str]) -> set[str]:
        """Those that run, and those that the supervisor is about to start again."""
        seen = status(self._directory(place) / SOCKET) or {}
        return {name for name in names & seen.keys() if seen[name].running or seen[name].status in _COMING}

    def _all_gone(self, place: Place, at: float, processes: list[psutil.Process]) -> Struck:
        deadline, site = time.monotonic() + GONE_SECONDS, self._directory(place)
        # Some were started while the others were looked for.
        while (late := members(site.name, site, self.manifest.directory)) and time.monotonic() < deadline:
            _signal(late, signal.SIGKILL)
            psutil.wait_procs(late, 0.1)
            processes += [process for process in late if process not in processes]
        left: list[JsonValue] = [process.pid for process in late]
        # A killed process still has its sockets while the kernel takes it down.
        while (listening := [port for port in self._ports(place) if _listens(port)]) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        open_ports: list[JsonValue] = list[JsonValue](listening)
        evidence: dict[str, JsonValue] = {
            "killed": len(processes),
            "still-running": left,
            "still-listening": open_ports,
        }
        proven = bool(processes) and not left and not open_ports
        return Struck(at, evidence, proven, killed=[process.pid for process in processes])

    def _found(self, place: Place, part: Part, only: Collection[str] = ()) -> list[psutil.Process]:
        """The part's processes, the supervisor first."""
        site = self._directory(place)
        if part in ("everything", "database"):
            found = members(site.name, site, self.manifest.directory)
            if part == "database":
                return [process for process in found if _name(process).startswith("postgres")]
            return sorted(found, key=lambda process: _name(process) != "process-compose")
        found = list[psutil.Process]()
        for name, pid in self.running(place, part).items():
            with contextlib.suppress(psutil.NoSuchProcess):
                if not only or name in only:
                    found.append(psutil.Process(pid))
        return found

    def _names(self, place: Place, part: Part) -> list[str]:
        region = self.manifest.regions.get(place)
        if part == "everything":
            return ["etcd", "observer"] if region is None else ["etcd", "postgres", "region-agent", "api"]
        if part in ("worker", "sidecar"):
            return [] if region is None else region.workers if part == "worker" else region.sidecars
        return [_SUPERVISED.get(part, part)]

    def is_active(self, place: Place) -> bool:
        """Whether the region executes runs, or is about to, by what its agent wrote down."""
        try:
            role = json.loads(self.manifest.regions[place].role_file.read_bytes())["role"]
        except (KeyError, OSError, ValueError):
            return False
        return role != "standby"

    def _site(self, place: Place) -> Site:
        return Site.existing(self._directory(place).name, self.manifest.directory)

    def _directory(self, place: Place) -> Path:
        return (self.manifest.witness if place == "w" else self.manifest.regions[place]).directory

    def _ports(self, place: Place) -> list[int]:
        if place == "w":
            urls = [self.manifest.witness.observer, self.manifest.witness.etcd]
            return [urlsplit(url).port or 0 for url in urls]
        region = self.manifest.regions[place]
        return [urlsplit(url).port or 0 for url in (region.api, region.agent, region.patroni)] + [region.postgres_port]


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _all(
    processes: list[psutil.Process], holds: Callable[[psutil.Process], bool], seconds: float | None = None
) -> bool:
    """Whether it holds for all of them, before the deadline."""
    deadline = time.monotonic() + (GONE_SECONDS if seconds is None else seconds)
    while not (done := all(map(holds, processes))) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return done


def _state(process: psutil.Process) -> str:
    try:
        return process.status()
    except psutil.NoSuchProcess:
        return psutil.STATUS_DEAD


def _frozen(process: psutil.Process) -> bool:
    return _state(process) == psutil.STATUS_STOPPED


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.3)
        return probe.connect_ex(("127.0.0.1", port)) == 0
