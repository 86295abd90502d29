"""A site is a group of processes under one supervisor, all below one directory and all marked as its own.

Every process carries `HOLDFAST_DEPLOYMENT` and `HOLDFAST_SITE` in its environment; a site can therefore be
killed, and be proven gone, without trusting its supervisor.
"""

from __future__ import annotations

import os
import pwd
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from infra.local.errors import PartError
from infra.toolchain.account import Account

__all__ = ["Process", "Site", "kill_site", "members"]

_SIGTERM = int(signal.SIGTERM)
_KILL_SECONDS = 10.0


@dataclass(frozen=True)
class Process:
    """One supervised process. Secrets go into `environment` or a file, never into `command`."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    autostart: bool = True
    """Otherwise somebody starts it through the supervisor's API."""
    stop_signal: int = _SIGTERM
    stop_seconds: int = 10
    parent_only: bool = False
    """Whether only the process itself is told to stop, and stops its children on its own."""
    ports: Mapping[str, int] = field(default_factory=dict[str, int])
    """Where it listens, by name."""


@dataclass(frozen=True)
class Site:
    """A group of processes below `directory`, run as `account`."""

    name: str
    directory: Path
    deployment: Path
    account: Account
    processes: tuple[Process, ...]

    @classmethod
    def existing(cls, name: str, deployment: Path) -> Site:
        """A site that was brought up before, to be started again just as it was, or stopped."""
        directory = deployment / name
        owner = pwd.getpwuid(directory.stat().st_uid)
        return cls(name, directory, deployment, Account(owner.pw_name, owner.pw_uid, owner.pw_gid), ())

    @property
    def socket(self) -> Path:
        """The supervisor's API."""
        return self.directory / "supervisor.sock"

    def log(self, process: str) -> Path:
        return self.directory / "logs" / f"{process}.log"

    @property
    def environment(self) -> Mapping[str, str]:
        """What marks a process as this site's."""
        return {"HOLDFAST_DEPLOYMENT": str(self.deployment), "HOLDFAST_SITE": self.name}

    @property
    def ports(self) -> Mapping[str, int]:
        return {f"{self.name} {name}": port for process in self.processes for name, port in process.ports.items()}

    def supervision(self) -> str:
        """The supervisor's configuration."""
        return yaml.safe_dump(
            {
                "version": "0.5",
                "is_strict": True,
                "disable_env_expansion": True,
                "log_level": "info",
                "processes": {process.name: self._entry(process) for process in self.processes},
            },
            sort_keys=False,
            width=1000,
        )

    def _entry(self, process: Process) -> dict[str, object]:
        return {
            "entrypoint": list(process.command),
            "working_dir": str(self.directory / "data"),
            "environment": [f"{key}={value}" for key, value in sorted(process.environment.items())],
            "log_location": str(self.log(process.name)),
            "log_configuration": {
                "rotation": {"max_size_mb": 10, "max_backups": 2},
                "disable_json": True,
                "no_metadata": True,
                "no_color": True,
                "flush_each_line": True,
                "fields_order": ["message"],
            },
            "disabled": not process.autostart,
            "disable_ansi_colors": True,
            "is_dotenv_disabled": True,
            "availability": {"restart": "always", "backoff_seconds": 1},
            "shutdown": {
                "signal": process.stop_signal,
                "timeout_seconds": process.stop_seconds,
                "parent_only": process.parent_only,
            },
        }


def members(site: str, directory: Path, deployment: Path) -> list[psutil.Process]:
    """Every live process of the site, the supervisor and PostgreSQL's backends included.

    PostgreSQL overwrites its environment with its title, so it is known by its working directory.
    """
    marks = {f"HOLDFAST_DEPLOYMENT={deployment}".encode(), f"HOLDFAST_SITE={site}".encode()}
    below = os.path.join(os.path.realpath(directory), "")
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if marks <= _environment(process) or (
                process.name().startswith("postgres") and os.path.join(process.cwd(), "").startswith(below)
            ):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def kill_site(site: str, directory: Path, deployment: Path) -> list[psutil.Process]:
    """SIGKILL to every process of the site at once, again until none is left; answers with all it killed."""
    killed: dict[int, psutil.Process] = {}
    deadline = time.monotonic() + _KILL_SECONDS
    while alive := members(site, directory, deployment):
        if time.monotonic() > deadline:
            raise PartError(
                f"{site}: {', '.join(f'{one.name()} ({one.pid})' for one in alive)} still ran "
                f"{_KILL_SECONDS:g} s after SIGKILL: see what the kernel waits for, then repeat"
            )
        for process in alive:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
            killed[process.pid] = process
        time.sleep(0.01)
    return list(killed.values())


def _environment(process: psutil.Process) -> set[bytes]:
    path = Path(f"/proc/{process.pid}/environ")
    if path.parent.exists():
        return set(path.read_bytes().split(b"\0"))
    return {f"{key}={value}".encode() for key, value in process.environ().items()}
