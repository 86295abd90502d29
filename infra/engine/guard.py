"""One change of a deployment at a time; what an interrupted one left behind, the next one clears.

The guard is a file lock, which the operating system gives back when its holder dies. While it is held, any
process of Pulumi's that works on the stack is an orphan: an engine is waited for, since it ends what it has
begun; a provider without an engine is ended. After that Pulumi's own locks are void.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator

import psutil

from infra.engine.workspace import MARK, Workspace

__all__ = ["Busy", "clear_locks", "end_providers", "exclusively", "pending_operations"]

_POLL_SECONDS = 0.2
_END_SECONDS = 3.0


class Busy(RuntimeError):
    """Somebody else is changing the same deployment."""


@contextlib.contextmanager
def exclusively(workspace: Workspace) -> Iterator[None]:
    """Holds the deployment for one change, or raises `Busy` at once."""
    workspace.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with workspace.guard.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Busy(
                f"process {file.read().strip() or 'unknown'} is changing this deployment: "
                f"wait for it to end, or stop it and try again"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def clear_locks(workspace: Workspace, say: Callable[[str], None], deadline_seconds: float = 120.0) -> None:
    """Removes what an interrupted change left locked; if its engine still runs, it is waited for."""
    deadline = time.monotonic() + deadline_seconds
    said = False
    while engines := [process.pid for process in _at_work(workspace) if process.name() == "pulumi"]:
        if not said:
            say(f"waiting for an interrupted change to end (process {engines[0]})")
            said = True
        if time.monotonic() > deadline:
            raise Busy(
                f"waited {deadline_seconds:g} s for Pulumi (process {engines[0]}) to end a change that was "
                f"interrupted; it still runs: stop it with `kill {engines[0]}` and try again"
            )
        time.sleep(_POLL_SECONDS)
    end_providers(workspace)
    for lock in workspace.locks.glob("*.json"):
        lock.unlink(missing_ok=True)


def end_providers(workspace: Workspace) -> None:
    """Ends the providers that outlived their engine."""
    providers = _at_work(workspace)
    for provider in providers:
        with contextlib.suppress(psutil.Error):
            provider.kill()
    psutil.wait_procs(providers, timeout=_END_SECONDS)


def pending_operations(workspace: Workspace) -> bool:
    """Whether an interrupted change left operations of which Pulumi does not know how they ended."""
    try:
        content = json.loads(workspace.checkpoint.read_text(encoding="utf-8"))
        return bool(content["checkpoint"]["latest"].get("pending_operations"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _at_work(workspace: Workspace) -> list[psutil.Process]:
    """Engines and providers of the stack; what a provider started bears the mark too, and is to stay."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            pulumi = process.name() == "pulumi" or "pulumi.dynamic" in process.cmdline()
            if pulumi and process.environ().get(MARK) == str(workspace.project):
                found.append(process)
    return found
