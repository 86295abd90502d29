"""A file in the cache is complete, executable by the services, and never changes once it is there.

`<cache>/tools/<key>/bin/<name>`, where the key covers everything that goes into the build. Nothing is ever
overwritten: another pin has another key.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from infra.toolchain.account import is_root, others_can_reach
from infra.toolchain.errors import ToolchainError
from infra.toolchain.pins import Tool
from infra.toolchain.progress import Progress, elapsed

__all__ = ["cache_directory", "cached", "locked", "publish", "staging"]

SHARED_CACHE = Path("/var/cache/holdfast")

_POLL_SECONDS = 0.5
_REPORT_SECONDS = 15.0


def cache_directory() -> Path:
    """Where built tools are kept.

    `HOLDFAST_CACHE` if set; else `holdfast` in the user's cache directory; but as root, where nobody else
    could reach that one, `/var/cache/holdfast`: the services run as another user.
    """
    if chosen := os.environ.get("HOLDFAST_CACHE"):
        return Path(chosen).expanduser().absolute()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "holdfast"
    if is_root() and not others_can_reach(home / "tools"):
        return SHARED_CACHE
    return home


def cached(tool: Tool) -> Path:
    """Where the tool is, once it has been built."""
    return cache_directory() / "tools" / tool.key / "bin" / tool.name


@contextmanager
def locked(progress: Progress) -> Generator[None]:
    """At most one process builds into a cache; the others wait, and say so every 15 s."""
    directory = cache_directory() / "tools"
    _make(directory)
    # For its owner alone: a lock that anyone may open, anyone may hold.
    with _writable():
        descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _acquire(descriptor, progress)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def staging(tool: Tool) -> Generator[Path]:
    """A directory beside the tool's place in the cache, gone afterwards whatever happens."""
    parent = cache_directory() / "tools"
    _make(parent)
    with _writable():
        directory = Path(tempfile.mkdtemp(prefix=f".{tool.name}-", dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def publish(built: Path, tool: Tool) -> Path:
    """Puts a finished binary in its place in one rename, readable and executable by all."""
    place = cached(tool)
    _make(place.parent)
    built.chmod(0o755)
    built.rename(place)
    return place


def _make(directory: Path) -> None:
    """Makes the directory and its parents; those it makes are open to all, whatever the umask."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    with _writable():
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)


@contextmanager
def _writable() -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise ToolchainError(
            f"cannot write to the cache ({error}): set HOLDFAST_CACHE to a directory that you can write to"
        ) from error


def _acquire(descriptor: int, progress: Progress) -> None:
    started = report_at = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= report_at:
                holder = os.pread(descriptor, 32, 0).decode() or "unknown"
                progress(f"waiting for the build by process {holder} … {elapsed(started)}")
                report_at = time.monotonic() + _REPORT_SECONDS
            time.sleep(_POLL_SECONDS)
        else:
            return
