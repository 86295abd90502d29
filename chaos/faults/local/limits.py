"""What a process may take of the machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import JsonValue

from chaos.faults.target import NotInjectedError, NotLiftedError, Resource, Struck
from infra.manifest import Manifest

SLICE_SECONDS = 0.2
TOLERANCE = 2.0
"""How much more than its share a throttled process may have got: a slice ends when this process gets its turn."""


@dataclass(frozen=True)
class _Limit:
    """How the kernel names a limit, in which option `prlimit` takes it, and how evidence tells it."""

    line: str
    option: str
    told: str


_LIMITS: dict[Resource, _Limit] = {
    "files": _Limit("Max open files", "nofile", "open-files"),
    "memory": _Limit("Max address space", "as", "bytes"),
}


@dataclass(frozen=True)
class Limits:
    """Sets limits from outside, as an administrator can."""

    manifest: Manifest

    def starve(self, running: Mapping[str, int], of: Resource) -> Struck:
        """The first of these processes gets no more than it has."""
        limit, at, (name, pid) = _LIMITS[of], time.time(), _first(running)
        try:
            has, (_, hard) = _has(pid, of), _limits(pid, limit)
            _set(pid, limit, str(has), hard)
            now = _limits(pid, limit)[0]
        except (psutil.Error, OSError) as error:
            raise NotInjectedError(f"{name} ({pid}) can't be limited: {error}") from error
        evidence: dict[str, JsonValue] = {"process": name, limit.told: has, "may-have": int(now)}
        return Struck(at, evidence, now == str(has))

    def sate(self, running: Mapping[str, int]) -> None:
        """All of these may take as much as their hard limits say."""
        for name, pid in running.items():
            for limit in _LIMITS.values():
                try:
                    soft, hard = _limits(pid, limit)
                    if soft != hard:
                        _set(pid, limit, hard, hard)
                except (FileNotFoundError, ProcessLookupError):
                    continue  # who was restarted has a new limit
                except OSError as error:
                    raise NotLiftedError(f"{name} ({pid}) is limited still: {error}") from error

    def throttle(self, running: Mapping[str, int], share: float, seconds: float) -> Struck:
        """The first of these processes runs for that share of each slice of time, and stands still for the rest."""
        at, (name, pid) = time.time(), _first(running)
        began = time.monotonic()
        try:
            process = psutil.Process(pid)
            before = _cpu(process)
            with contextlib.ExitStack() as undo:
                undo.callback(_go_on, process)
                while time.monotonic() - began < seconds:
                    # The rhythm is the fault: this is no wait for something.
                    process.suspend()
                    time.sleep(SLICE_SECONDS * (1 - share))
                    process.resume()
                    time.sleep(SLICE_SECONDS * share)
            used = (_cpu(process) - before) / (time.monotonic() - began)
        except psutil.Error as error:
            raise NotInjectedError(f"{name} ({pid}) did not stay for {seconds:g} s: {error}") from error
        evidence: dict[str, JsonValue] = {"process": name, "share": share, "used": round(used, 4)}
        return Struck(at, evidence, used <= share * TOLERANCE)


def _first(running: Mapping[str, int]) -> tuple[str, int]:
    if not running:
        raise NotInjectedError("no such process runs")
    return min(running.items())


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _go_on(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()


def _has(pid: int, of: Resource) -> int:
    process = psutil.Process(pid)
    return process.num_fds() if of == "files" else process.memory_info().vms


def _limits(pid: int, limit: _Limit) -> tuple[str, str]:
    """Soft and hard, numbers or `unlimited`."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    soft, hard = next(one for one in lines if one.startswith(limit.line)).removeprefix(limit.line).split()[:2]
    return soft, hard


def _set(pid: int, limit: _Limit, soft: str, hard: str) -> None:
    """As the process's own account: in a container, root may not be allowed to limit another's."""
    owner = os.stat(f"/proc/{pid}")
    command = ["prlimit", f"--pid={pid}", f"--{limit.option}={soft}:{hard}"]
    if os.geteuid() == 0:
        command = ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups", "--", *command]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise OSError(answer.stderr.strip())
