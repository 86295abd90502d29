"""A build is the pinned source, verified against the committed `go.sum`, or it is an error.

`-mod=readonly` with a complete `go.sum` means that no checksum database is asked; the user's own proxy
settings decide where modules come from.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from infra.toolchain.binaries import find
from infra.toolchain.cache import cache_directory, locked, publish, staging
from infra.toolchain.errors import BuildFailed, GoUnusable
from infra.toolchain.pins import Tool, tool_named
from infra.toolchain.progress import Progress, elapsed, silent

__all__ = ["check_go", "ensure", "source"]

_REPORT_SECONDS = 15.0
_LOG_LINES = 20
_FREE_BYTES = 1024**3
"""Room for a binary and its link step; Go's own caches, often elsewhere, take about 8 GB in a first build."""

_Version = tuple[int, ...]


def ensure(names: Iterable[str], progress: Progress = silent) -> dict[str, Path]:
    """Where each named tool is, building those that are nowhere to be found, once.

    Raises `GoUnusable` before anything is built if Go cannot build all of them, and `BuildFailed` with the
    end of the log. Processes that build at the same time take turns, and use each other's results.
    """
    tools = [tool_named(name) for name in names]
    found = {tool.name: find(tool) for tool in tools}
    if any(binary is None for binary in found.values()):
        with locked(progress):
            found |= {tool.name: find(tool) for tool in tools if found[tool.name] is None}
            missing = [tool for tool in tools if found[tool.name] is None]
            check_go(missing)
            built = {
                tool.name: _build(tool, f"{tool.name} {number}/{len(missing)}", progress)
                for number, tool in enumerate(missing, start=1)
            }
    else:
        built = dict[str, Path]()
    return {name: built[name] if binary is None else binary.path for name, binary in found.items()}


def source(name: str, module: str) -> Path:
    """Where the source of `module` is at the version that a pinned tool is built from; fetched if it is not there.

    Raises `GoUnusable` where it can't be had.
    """
    tool = tool_named(name)
    check_go([tool])
    answer = subprocess.run(
        ["go", "mod", "download", "-json", module],
        cwd=tool.directory,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise GoUnusable(f"{module} can't be fetched: {(answer.stderr or answer.stdout).strip()}; set GOPROXY")
    return Path(json.loads(answer.stdout)["Dir"])


def check_go(tools: Iterable[Tool]) -> None:
    """Returns only if the Go on PATH can build all of these tools' modules."""
    for directory in dict.fromkeys(tool.directory for tool in tools):
        needed = _needed_go(directory)
        wanted = ".".join(map(str, needed))
        remedy = f"install Go {wanted} or newer and put it on PATH, then run `make setup` again"
        if shutil.which("go") is None:
            raise GoUnusable(f"Go is not on PATH, and {directory.name} has to be built: {remedy}")
        # Run in the module, so that a Go which may fetch a newer toolchain does.
        answer = subprocess.run(
            ["go", "env", "GOVERSION"],
            cwd=directory,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode != 0:
            raise GoUnusable(f"`go env` failed: {answer.stderr.strip()}; {remedy}")
        version = answer.stdout.strip()
        if _numbers(version) < needed:
            raise GoUnusable(f"{version} is too old to build {directory.name}: {remedy}")


def _build(tool: Tool, label: str, progress: Progress) -> Path:
    started = time.monotonic()
    with staging(tool) as directory:
        _check_room(directory)
        binary = directory / tool.name
        log = cache_directory() / "tools" / f"{tool.name}.log"
        with log.open("w", encoding="utf-8") as output:
            build = subprocess.Popen(
                ["go", "build", "-o", str(binary), *tool.build_arguments],
                cwd=tool.directory,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                _wait(build, f"building {label}", started, progress)
            finally:
                if build.poll() is None:
                    build.kill()
                    build.wait()
        if build.returncode != 0:
            raise BuildFailed(_failure(tool, build.returncode, log))
        place = publish(binary, tool)
        log.unlink()
    progress(f"built {label} in {elapsed(started)}")
    return place


def _wait(build: subprocess.Popen[bytes], label: str, started: float, progress: Progress) -> None:
    while True:
        progress(f"{label} … {elapsed(started)}")
        try:
            build.wait(_REPORT_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return


def _failure(tool: Tool, status: int, log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    quoted = "\n".join(f"    {line}" for line in lines[-_LOG_LINES:])
    advice = "set GOPROXY to a module proxy that you can reach, or put the tool on PATH"
    if any("no space left on device" in line for line in lines):
        advice = "make room, or point HOLDFAST_CACHE, GOCACHE, GOMODCACHE and TMPDIR at a larger disk"
    elif any("signal: killed" in line for line in lines):
        advice = "the compiler was killed, most often for want of memory: free some, or set GOMAXPROCS=1"
    return (
        f"building {tool.name} {tool.version} failed with status {status}; the end of {log}:\n{quoted}\n"
        f"then: {advice}, and run `make setup` again"
    )


def _check_room(directory: Path) -> None:
    free = shutil.disk_usage(directory).free
    if free < _FREE_BYTES:
        raise BuildFailed(
            f"{free / 1024**2:.0f} MB are free at {directory.parent}, and a build takes 1 GB there: "
            f"make room, or set HOLDFAST_CACHE to a directory on a larger disk"
        )


def _environment() -> dict[str, str]:
    """The caller's environment, without what would build something else than the pins say."""
    environment = {name: value for name, value in os.environ.items() if name not in {"GOOS", "GOARCH"}}
    return environment | {"CGO_ENABLED": "0", "GOWORK": "off", "GO111MODULE": "on"}


def _needed_go(directory: Path) -> _Version:
    text = (directory / "go.mod").read_text(encoding="utf-8")
    line = re.search(r"^go (\S+)$", text, re.MULTILINE)
    if line is None:
        raise GoUnusable(f"{directory / 'go.mod'} has no `go` line: restore it from version control")
    return _numbers(line.group(1))


def _numbers(version: str) -> _Version:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
