"""Files are written whole or not at all, for one account alone unless said otherwise.

A reader never sees half a file, and a secret is never readable by others, not even for a moment.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import yaml

from infra.local.errors import PartError
from infra.toolchain.account import Account, is_root, others_can_reach

__all__ = ["as_yaml", "check_reachable", "exclusively", "make_directory", "write"]

PRIVATE = 0o600
PUBLIC = 0o644


def as_yaml(document: dict[str, object]) -> str:
    """A configuration as its program reads it, keys in their order and each value on one line."""
    return yaml.safe_dump(document, sort_keys=False, width=4096)


def write(path: Path, content: str | bytes, account: Account | None = None, mode: int = PRIVATE) -> bool:
    """Whether the file had to be written: it holds `content` and has `mode` and owner afterwards.

    Without an account it belongs to the caller.
    """
    data = content.encode() if isinstance(content, str) else content
    uid = account.uid if account else os.geteuid()
    gid = account.gid if account else os.getegid()
    with contextlib.suppress(FileNotFoundError):
        seen = path.stat()
        if (seen.st_mode & 0o777, seen.st_uid) == (mode, uid) and path.read_bytes() == data:
            return False
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if is_root():
                os.fchown(file.fileno(), uid, gid)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return True


def make_directory(path: Path, account: Account | None = None, mode: int = 0o755) -> Path:
    """The directory, made with its parents where missing; it alone gets the mode and the owner."""
    path.mkdir(parents=True, exist_ok=True)
    os.chmod(path, mode)
    if is_root():
        uid, gid = (account.uid, account.gid) if account else (0, 0)
        os.chown(path, uid, gid)
    return path


def check_reachable(directory: Path, account: Account) -> None:
    """Raises `PartError` if the services' account cannot walk to `directory`."""
    if is_root() and not others_can_reach(directory / "any"):
        closed = [parent for parent in reversed(directory.absolute().parents) if not others_can_reach(parent / "any")]
        where = closed[0] if closed else directory
        raise PartError(
            f"the services run as user {account.name!r}, which may not enter {where}: "
            f"`chmod o+x {where}`, or choose another state directory with HOLDFAST_STATE"
        )


@contextlib.contextmanager
def exclusively(directory: Path) -> Iterator[None]:
    """One at a time, across processes and threads, for what several parts share in a deployment."""
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
