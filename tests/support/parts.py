"""A target whose parts are files: a part lives while its file `alive` is there.

A file in the directory `orders` beside the deployment's tells it to misbehave: `fail-<part>` makes that
part's next convergence fail half-way, `slow-<part>` makes it take as many seconds as the file says.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.local.resources import LocalTarget
from infra.topology import Settings


@dataclass(frozen=True)
class Observation:
    exists: bool
    healthy: bool
    detail: str


class PartError(RuntimeError):
    pass


class FileTarget(LocalTarget):
    """The local target with these parts, which take no tools."""

    def __init__(self) -> None:
        super().__init__(__name__)

    def check(self) -> None:
        pass


def converge(part: str, settings: Settings, progress: Callable[[str], None]) -> dict[str, str]:
    directory = settings.directory / part
    directory.mkdir(parents=True, exist_ok=True)
    progress(f"starting {part}")
    _record(settings, f"converge {part}")
    slow = _order(settings, f"slow-{part}")
    if slow is not None:
        time.sleep(float(slow))
    if _order(settings, f"fail-{part}") is not None:
        raise PartError(f"{part}: postgres did not become ready within 1 s; log: {directory}/log; next: look there")
    (directory / "settings.json").write_text(json.dumps({"workers": settings.workers, **settings.environment}))
    (directory / "alive").touch()
    return {"api": f"https://127.0.0.1/{part}", "agent": f"https://127.0.0.1/{part}/agent"}


def observe(part: str, settings: Settings) -> Observation:
    directory = settings.directory / part
    alive = (directory / "alive").exists()
    return Observation(directory.exists(), alive, "" if alive else f"{part} is dead")


def remove(part: str, settings: Settings) -> None:
    _record(settings, f"remove {part}")
    shutil.rmtree(settings.directory / part, ignore_errors=True)
    if part == "root":
        shutil.rmtree(settings.directory, ignore_errors=True)


def orders(directory: Path) -> Path:
    path = directory.parent / "orders"
    path.mkdir(parents=True, exist_ok=True)
    return path


def record(directory: Path) -> list[str]:
    """What was asked of the target so far, in order."""
    path = directory.parent / "record"
    return path.read_text().splitlines() if path.exists() else []


def _order(settings: Settings, name: str) -> str | None:
    path = orders(settings.directory) / name
    return path.read_text() if path.exists() else None


def _record(settings: Settings, line: str) -> None:
    with (settings.directory.parent / "record").open("a") as file:
        file.write(line + "\n")
