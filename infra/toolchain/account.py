"""Services never run as root: as root they run as the system user `holdfast`, else as the caller.

PostgreSQL refuses to start as root, and a region that misbehaves should own nothing but its own state.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from infra.toolchain.errors import ToolchainError

__all__ = [
    "SERVICE_USER",
    "Account",
    "ensure_account",
    "is_root",
    "others_can_execute",
    "others_can_reach",
    "others_can_read",
]

SERVICE_USER = "holdfast"

_USERADD = (
    "useradd",
    "--system",
    "--user-group",
    "--home-dir",
    "/nonexistent",
    "--shell",
    "/usr/sbin/nologin",
    SERVICE_USER,
)


@dataclass(frozen=True)
class Account:
    """Whom the services run as."""

    name: str
    uid: int
    gid: int


def is_root() -> bool:
    """Whether this process may become another user."""
    return os.geteuid() == 0


def ensure_account() -> Account:
    """The account that services run as, made first where that takes root."""
    if not is_root():
        return _account(pwd.getpwuid(os.geteuid()))
    try:
        return _account(pwd.getpwnam(SERVICE_USER))
    except KeyError:
        pass
    try:
        subprocess.run(_USERADD, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ToolchainError(
            f"cannot make the user {SERVICE_USER!r}, as useradd is missing: "
            f"make a system user of that name, or run as an unprivileged user"
        ) from error
    except subprocess.CalledProcessError as error:
        # Another set-up may have made it between the look and the call.
        if SERVICE_USER not in {entry.pw_name for entry in pwd.getpwall()}:
            raise ToolchainError(
                f"useradd could not make the user {SERVICE_USER!r} ({error.stderr.strip()}): "
                f"make a system user of that name, or run as an unprivileged user"
            ) from error
    return _account(pwd.getpwnam(SERVICE_USER))


def others_can_reach(path: Path) -> bool:
    """Whether any user may walk to `path`, by its own name and by its real one.

    Directories that do not exist yet are taken to be made traversable.
    """
    ancestors = {*path.absolute().parents, *path.resolve().parents}
    return all(_allows(directory, stat.S_IXOTH) for directory in ancestors)


def others_can_read(path: Path) -> bool:
    """Whether any user may read the file at `path`."""
    return path.is_file() and others_can_reach(path) and _allows(path, stat.S_IROTH)


def others_can_execute(path: Path) -> bool:
    """Whether any user may run the program at `path`."""
    return path.is_file() and others_can_reach(path) and _allows(path, stat.S_IXOTH | stat.S_IROTH)


def _allows(path: Path, bits: int) -> bool:
    try:
        return path.stat().st_mode & bits == bits
    except FileNotFoundError:
        return True
    except PermissionError:
        return False


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)
