"""What a process may take of the machine."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil
from pydantic import JsonValue

from chaos.faults.target import NotInjectedError, NotLiftedError, Struck
from infra.manifest import Manifest

SPARE = 0
FILES = resource.RLIMIT_NOFILE


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
            has, (_, hard) = psutil.Process(pid).num_fds(), resource.prlimit(pid, FILES)
            resource.prlimit(pid, FILES, (has + SPARE, hard))
            now = resource.prlimit(pid, FILES)[0]
        except (psutil.Error, OSError) as error:
            raise NotInjectedError(f"{name} ({pid}) can't be limited: {error}") from error
        evidence: dict[str, JsonValue] = {"process": name, "open-files": has, "may-open": now}
        return Struck(at, evidence, now <= has + SPARE)

    def sate(self, running: Mapping[str, int]) -> None:
        """All of these may open as many files as their hard limit says."""
        for name, pid in running.items():
            try:
                hard = resource.prlimit(pid, FILES)[1]
                resource.prlimit(pid, FILES, (hard, hard))
            except ProcessLookupError:
                continue  # who was restarted has a new limit
            except OSError as error:
                raise NotLiftedError(f"{name} ({pid}) is limited still: {error}") from error
