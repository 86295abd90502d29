"""A site's supervisor: started detached, asked over its socket, and stopped with everything that it runs.

`start` and `stop` may be repeated in any state, also after everything was killed; a stale socket or pid file
is no hindrance.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import psutil

from infra.local.errors import PartError
from infra.local.files import make_directory, write
from infra.local.ports import check_free
from infra.local.site import Site, kill_site, members
from infra.toolchain import require
from infra.toolchain.account import is_root

__all__ = ["ProcessStatus", "ask", "await_true", "log_tail", "start_site", "status", "stop_site"]

CONFIGURATION = "process-compose.yaml"
_START_SECONDS, _STOP_SECONDS = 15.0, 20.0

_T = TypeVar("_T")


@dataclass(frozen=True)
class ProcessStatus:
    """What the supervisor says of one process."""

    name: str
    pid: int
    running: bool
    restarts: int
    exit_code: int
    status: str


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a socket in `directory`, however long that directory's path is."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("supervisor", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            near = f"/proc/self/fd/{descriptor}"
            self.sock.connect(f"{near}/{self._path.name}" if os.path.exists(near) else str(self._path))
        finally:
            os.close(descriptor)


def ask(path: Path, method: str, request: str, timeout: float = 5.0) -> object:
    """The supervisor's answer; `OSError` if there is none, `PartError` if it refuses."""
    connection = _SocketConnection(path, timeout)
    try:
        connection.request(method, request)
        response = connection.getresponse()
        body = response.read()
    except http.client.HTTPException as error:
        raise OSError(f"the supervisor at {path} hung up") from error
    finally:
        connection.close()
    if response.status >= http.HTTPStatus.BAD_REQUEST:
        raise PartError(f"the supervisor refused {method} {request}: {body.decode(errors='replace').strip()}")
    return json.loads(body) if body else None


def status(path: Path) -> Mapping[str, ProcessStatus] | None:
    """Every process by name, or nothing if the supervisor does not answer."""
    try:
        answer = cast("dict[str, Any]", ask(path, "GET", "/processes"))
    except OSError:
        return None
    return {
        one["name"]: ProcessStatus(
            one["name"], one["pid"], one["is_running"], one["restarts"], one["exit_code"], one["status"]
        )
        for one in answer["data"]
    }


def start_site(site: Site) -> bool:
    """Whether something had to be started: afterwards the supervisor runs all that it is to keep running."""
    seen = status(site.socket)
    if seen is None:
        _start_supervisor(site)
        return True
    dead = [one.name for one in site.processes if one.autostart and not _alive(seen.get(one.name))]
    for name in dead:
        ask(site.socket, "POST", f"/process/start/{name}")
    return bool(dead)


def stop_site(site: Site) -> None:
    """Stops everything: asked first, killed at the deadline. Nothing of the site runs afterwards."""
    with contextlib.suppress(OSError, PartError):
        ask(site.socket, "POST", "/project/stop", timeout=_STOP_SECONDS)
    deadline = time.monotonic() + _STOP_SECONDS
    while members(site.name, site.directory, site.deployment) and time.monotonic() < deadline:
        time.sleep(0.1)
    kill_site(site.name, site.directory, site.deployment)
    site.socket.unlink(missing_ok=True)


def log_tail(site: Site, process: str, lines: int = 8) -> str:
    """The last lines that the process wrote, indented."""
    path = site.log(process)
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16384))
            text = file.read().decode(errors="replace")
    except OSError:
        return "    (it wrote nothing)"
    return "\n".join(f"    {line[:300]}" for line in text.splitlines()[-lines:])


def await_true(what: str, look: Callable[[], tuple[_T | None, str]], seconds: float, hint: Callable[[], str]) -> _T:
    """The first value that `look` gives; at the deadline a `PartError` of what was awaited and last seen."""
    deadline = time.monotonic() + seconds
    while True:
        value, seen = look()
        if value is not None:
            return value
        if time.monotonic() > deadline:
            raise PartError(f"{what} did not come about in {seconds:g} s; last seen: {seen}\n{hint()}")
        time.sleep(0.1)


def _start_supervisor(site: Site) -> None:
    # What a dead supervisor left running is in the way of a new one, PostgreSQL most of all.
    kill_site(site.name, site.directory, site.deployment)
    check_free(site.ports)
    for name in ("", "logs", "data", "supervisor"):
        make_directory(site.directory / name, site.account, 0o750 if name else 0o755)
    if site.processes:  # else it starts again what it was last told to run
        write(site.directory / CONFIGURATION, site.supervision(), site.account)
    program = require(["process-compose"])["process-compose"]
    command = [str(program), "up", "-f", CONFIGURATION, "-U", "-u", site.socket.name]
    command += ["-L", "logs/supervisor.log", "-t=false", "--keep-project", "--disable-dotenv"]
    with (site.directory / "logs" / "supervisor.out").open("wb") as output:
        child = subprocess.Popen(
            [*_as_account(site), *command],
            cwd=site.directory,
            env=_base_environment(site),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def look() -> tuple[Mapping[str, ProcessStatus] | None, str]:
        if child.poll() is not None:
            said = (site.directory / "logs" / "supervisor.out").read_text(errors="replace")[-800:]
            raise PartError(
                f"the supervisor of {site.name} ended with code {child.returncode}: {said.strip()}\n"
                f"see {site.directory / 'logs'}, then repeat `holdfast up`"
            )
        return status(site.socket), "no answer on its socket"

    await_true(f"the supervisor of {site.name}", look, _START_SECONDS, lambda: log_tail(site, "supervisor"))


def _base_environment(site: Site) -> dict[str, str]:
    """Nothing of the caller's environment but what a program needs to run at all."""
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "TZ") if key in os.environ}
    return {
        **kept,
        **site.environment,
        "HOME": str(site.directory / "data"),
        "PROC_COMP_CONFIG": str(site.directory / "supervisor"),
        "LC_ALL": "C.UTF-8",
    }


def _as_account(site: Site) -> list[str]:
    """What to put before a command that is to run as the site's account.

    Not `Popen(user=…)`: that forks, and a fork of a process that speaks gRPC, as Pulumi's provider does, runs
    gRPC's handlers in the child, which then sometimes aborts (seen with two sites started side by side).
    """
    if not is_root():
        return []
    account = site.account
    return ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups", "--"]


def _alive(one: ProcessStatus | None) -> bool:
    # `Restarting` comes back by itself; asking to start it would be refused.
    return one is not None and (one.running or one.status in ("Restarting", "Launching", "Pending"))


def processes_of(site: Site) -> Iterator[psutil.Process]:
    """Every live process of the site."""
    yield from members(site.name, site.directory, site.deployment)
