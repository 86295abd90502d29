"""Processes of one region are restarted, one after the other: each runs again before the next is stopped.

What a region runs only while it is active is not started in a standby: its region agent starts it when it is wanted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from infra.local.errors import PartError
from infra.local.supervisor import ProcessStatus, ask, status
from infra.manifest import Region
from infra.switchover import NotFinished, NotPossible

__all__ = ["Restarted", "chosen", "restart", "runs_only_where_active"]

_POLL_SECONDS = 0.1
_COMING = ("Restarting", "Launching", "Pending")


@dataclass(frozen=True)
class Restarted:
    """A process that runs again, after so many seconds."""

    name: str
    seconds: float


def runs_only_where_active(process: str) -> bool:
    """Whether the process is meant to be stopped while its region is standby."""
    return process == "scheduler" or process.startswith("daprd")


def chosen(region: Region, words: Sequence[str]) -> list[str]:
    """The processes that these words name; `worker` names every `worker-N`. Raises LookupError, NotPossible."""
    seen = _seen(region)
    found: dict[str, None] = {}
    for word in words:
        named = [name for name in sorted(seen) if name == word or name.rpartition("-")[0] == word]
        if not named:
            raise LookupError(f"{region.site} has no process {word!r}; it has {', '.join(sorted(seen))}")
        found |= dict.fromkeys(named)
    return list(found)


def restart(
    region: Region,
    names: Sequence[str],
    on_restart: Callable[[Restarted], None] = lambda _: None,
    deadline_seconds: float = 30.0,
) -> list[Restarted]:
    """Restarts these processes; one that is stopped is started. Raises NotPossible before anything was changed.

    Raises NotFinished where one does not run again within the deadline; those after it were not touched.
    """
    resting = [name for name in names if runs_only_where_active(name)]
    if resting and not _is_active(region):
        raise NotPossible(f"{', '.join(resting)} of {region.site} runs only while the region is active")
    done: list[Restarted] = []
    for name in names:
        began, before = time.monotonic(), _seen(region)[name]
        order = "restart" if before.running or before.status in _COMING else "start"
        try:
            ask(region.supervisor_socket, "POST", f"/process/{order}/{name}", timeout=deadline_seconds)
        except (OSError, PartError) as error:
            raise NotFinished(f"{name} of {region.site} was not restarted: {error}") from error
        _await(region, before, began + deadline_seconds)
        done.append(Restarted(name, time.monotonic() - began))
        on_restart(done[-1])
    return done


def _await(region: Region, before: ProcessStatus, deadline: float) -> None:
    while not ((now := _seen(region)[before.name]).running and (now.pid != before.pid or not before.running)):
        if time.monotonic() > deadline:
            log = region.directory / "logs" / f"{before.name}.log"
            raise NotFinished(f"{before.name} of {region.site} does not run again ({now.status.lower()}): see {log}")
        time.sleep(_POLL_SECONDS)


def _seen(region: Region) -> Mapping[str, ProcessStatus]:
    seen = status(region.supervisor_socket)
    if seen is None:
        raise NotPossible(f"the supervisor of {region.site} does not answer: `holdfast up` starts it")
    return seen


def _is_active(region: Region) -> bool:
    try:
        return json.loads(region.role_file.read_bytes())["role"] != "standby"
    except (OSError, ValueError, KeyError):
        return False
