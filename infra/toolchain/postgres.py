"""A PostgreSQL installation that is found has every program a region needs, at version 14 or newer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.toolchain.account import is_root, others_can_execute
from infra.toolchain.errors import PostgresMissing
from infra.toolchain.progress import Progress, silent

__all__ = ["OLDEST", "PROGRAMS", "Postgres", "find_postgres", "install_postgres"]

PROGRAMS = ("initdb", "postgres", "pg_ctl", "pg_basebackup", "pg_rewind", "pg_isready", "psql")
OLDEST = 14

_VERSIONED = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
"""Where Debian, the PostgreSQL project's own packages and Homebrew keep one directory per version."""

_CREATE_CLUSTER = Path("/etc/postgresql-common/createcluster.conf")


@dataclass(frozen=True)
class Postgres:
    """An installation: the directory of its programs, and its version, e.g. `(15, 18)`."""

    bin: Path
    version: tuple[int, ...]


def find_postgres(roots: Iterable[str] = _VERSIONED) -> Postgres:
    """The newest usable installation; raises `PostgresMissing` with what was found and what to install."""
    rejected: list[str] = []
    usable: list[Postgres] = []
    for directory in dict.fromkeys(_directories(roots)):
        installation = _inspect(directory)
        if isinstance(installation, str):
            rejected.append(f"{directory} {installation}")
        else:
            usable.append(installation)
    if usable:
        # The first of equals: a package's own directory before links to it.
        return max(usable, key=lambda installation: installation.version)
    seen = f" ({'; '.join(rejected)})" if rejected else ""
    raise PostgresMissing(
        f"no PostgreSQL server {OLDEST} or newer was found{seen}: install one, e.g. `apt-get install "
        f"postgresql` or `brew install postgresql@17`, or put its bin directory on PATH"
    )


def install_postgres(progress: Progress = silent) -> Postgres:
    """Debian's PostgreSQL server, installed without making or starting a cluster of its own; needs root."""
    if not is_root() or shutil.which("apt-get") is None:
        raise PostgresMissing(
            f"PostgreSQL can only be installed for you by root on Debian or Ubuntu: "
            f"install PostgreSQL {OLDEST} or newer, or put its bin directory on PATH"
        )
    progress("installing PostgreSQL with apt-get")
    apt_install("postgresql-common")
    if _CREATE_CLUSTER.is_file():
        settings = _CREATE_CLUSTER.read_text(encoding="utf-8")
        changed, count = re.subn(r"(?m)^#?\s*create_main_cluster\s*=.*$", "create_main_cluster = false", settings)
        _CREATE_CLUSTER.write_text(changed if count else f"{settings}\ncreate_main_cluster = false\n", encoding="utf-8")
    apt_install("postgresql")
    return find_postgres()


def apt_install(package: str) -> None:
    """Installs one Debian package, refreshing the package lists only if that turns out to be needed."""
    install = ["apt-get", "install", "-y", "--no-install-recommends", package]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (install, ["apt-get", "update"], install):
        answer = _run(command, environment)
        if command is install and answer.returncode == 0:
            return
    output = (answer.stdout + answer.stderr).splitlines()
    tail = "\n".join(f"    {line}" for line in output[-10:])
    raise PostgresMissing(
        f"`{' '.join(install)}` failed; its last lines:\n{tail}\n"
        f"install {package} yourself, then run `make setup` again"
    )


def _directories(roots: Iterable[str]) -> Iterator[Path]:
    for pattern in roots:
        yield from sorted(Path("/").glob(pattern.lstrip("/")))
    if program := shutil.which("pg_config"):
        answer = _run([program, "--bindir"])
        if answer.returncode == 0 and answer.stdout.strip():
            yield Path(answer.stdout.strip())
    for directory in os.environ.get("PATH", "").split(os.pathsep):
        if directory and (program := shutil.which("postgres", path=directory)):
            # A link to `postgres` alone has the other programs beside the real one.
            yield Path(program).resolve().parent


def _inspect(directory: Path) -> Postgres | str:
    """The installation in a directory, or why it cannot be used."""
    missing = [name for name in PROGRAMS if not _executable(directory / name)]
    if missing:
        return f"lacks {', '.join(missing)}"
    answer = subprocess.run([directory / "postgres", "--version"], capture_output=True, text=True, check=False)
    number = re.search(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?", answer.stdout)
    if number is None:
        return "has a `postgres` that does not tell its version"
    version = tuple(int(part) for part in number.groups(default="0"))
    return Postgres(directory, version) if version[0] >= OLDEST else f"is version {version[0]}"


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def _executable(path: Path) -> bool:
    return others_can_execute(path) if is_root() else path.is_file() and os.access(path, os.X_OK)
