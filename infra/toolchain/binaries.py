"""A tool that is found is the pinned version exactly, and whoever has to run it can.

Where a tool may come from, in this order: PATH and the place of `dapr init`; the cache of built tools.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from infra.toolchain.account import is_root, others_can_execute
from infra.toolchain.cache import cached
from infra.toolchain.errors import ToolMissing
from infra.toolchain.pins import Tool, tool_named

__all__ = ["Found", "Source", "find", "require"]

Source = Literal["PATH", "dapr init", "cache"]

_VERSION_SECONDS = 10.0


@dataclass(frozen=True)
class Found:
    """A usable binary of a tool, and where it comes from."""

    path: Path
    source: Source


def find(tool: Tool) -> Found | None:
    """The tool's binary, or `None` if it has to be built."""
    for candidate in _candidates(tool):
        teller = candidate.with_name(tool.vouched_by or tool.name)
        if _usable(tool, candidate) and tool.recognises(_version_output(teller, tool.version_arguments)):
            return Found(candidate, "PATH" if candidate.parent != _dapr_init() else "dapr init")
    built = cached(tool)
    return Found(built, "cache") if _usable(tool, built) else None


def require(names: Iterable[str]) -> dict[str, Path]:
    """Where each named tool is; builds nothing, and raises `ToolMissing` if one is not there."""
    tools = [tool_named(name) for name in names]
    found = {tool.name: find(tool) for tool in tools}
    missing = [f"{tool.name} {tool.version}" for tool in tools if found[tool.name] is None]
    if missing:
        raise ToolMissing(f"{', '.join(missing)} not found on PATH or in the cache: run `make setup`")
    return {name: binary.path for name, binary in found.items() if binary is not None}


def _candidates(tool: Tool) -> list[Path]:
    on_path = [] if tool.vouched_by else os.environ.get("PATH", "").split(os.pathsep)
    directories = [*on_path, str(_dapr_init())]
    found = (shutil.which(tool.name, path=directory) for directory in directories if directory)
    return list(dict.fromkeys(Path(path).absolute() for path in found if path))


def _dapr_init() -> Path:
    return Path.home() / ".dapr" / "bin"


def _usable(tool: Tool, path: Path) -> bool:
    if tool.service and is_root():
        return others_can_execute(path)
    return path.is_file() and os.access(path, os.X_OK)


@functools.cache
def _version_output(path: Path, arguments: tuple[str, ...]) -> str:
    """What the binary says of itself; nothing if it fails, or is a program that does not return."""
    try:
        answer = subprocess.run(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout + answer.stderr if answer.returncode == 0 else ""
