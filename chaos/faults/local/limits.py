"""What a process may take of the machine."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import JsonValue

from chaos.faults.target import NotInjectedError, NotLiftedError, Struck
from infra.manifest import Manifest

SPARE = 0


@dataclass(frozen=True)
class Limits:
    """Sets limits from outside, as an administrator can."""

    manifest: Manifest

    def starve(self, running: Mapping[str, int]) -> Struck:
        """The first of these processes gets not one file more than it has."""
        if not running:
            raise NotInjectedError("no such process runs")
        at, (name, pid) = time.time(), min(running.items())
        try:
            has, (_, hard) = psutil.Process(pid).num_fds(), _limits(pid)
            _limit(pid, has + SPARE, hard)
            now = _limits(pid)[0]
        except (psutil.Error, OSError) as error:
            raise NotInjectedError(f"{name} ({pid}) can't be limited: {error}") from error
        evidence: dict[str, JsonValue] = {"process": name, "open-files": has, "may-open": now}
        return Struck(at, evidence, now <= has + SPARE)

    def sate(self, running: Mapping[str, int]) -> None:
        """All of these may open as many files as their hard limit says."""
        for name, pid in running.items():
            try:
                hard = _limits(pid)[1]
                _limit(pid, hard, hard)
            except (FileNotFoundError, ProcessLookupError):
                continue  # who was restarted has a new limit
            except OSError as error:
                raise NotLiftedError(f"{name} ({pid}) is limited still: {error}") from error


def _limits(pid: int) -> tuple[int, int]:
    line = next(one for one in Path(f"/proc/{pid}/limits").read_text().splitlines() if one.startswith("Max open files"))
    soft, hard = line.split()[3:5]
    return int(soft), int(hard)


def _limit(pid: int, soft: int, hard: int) -> None:
    """As the process's own account: in a container, root may not be allowed to limit another's."""
    owner = os.stat(f"/proc/{pid}")
    command = ["prlimit", f"--pid={pid}", f"--nofile={soft}:{hard}"]
    if os.geteuid() == 0:
        command = ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups", "--", *command]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise OSError(answer.stderr.strip())
