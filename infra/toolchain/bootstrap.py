"""`make setup`: afterwards every program that Holdfast needs is there, at its pinned version.

Needs nothing but a Python and, for what is not installed, Go. A second run takes well under a second. What
can fail for want of something that only a person can install is looked at before anything long starts.
Exit status 0: ready. 2: something is missing, and the message says what to do.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

__all__ = ["main"]


def main(root: Path = ROOT) -> int:
    """Sets up the checkout at `root` and returns the exit status."""
    from infra.toolchain.errors import ToolchainError

    try:
        _set_up(root)
    except ToolchainError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("setup: interrupted; run `make setup` again to go on", file=sys.stderr)
        return 130
    return 0


def _set_up(root: Path) -> None:
    import time

    from infra.toolchain import go, interpreter, pins, postgres, stamp, uv
    from infra.toolchain.account import ensure_account, is_root, others_can_read
    from infra.toolchain.binaries import find
    from infra.toolchain.cache import cache_directory
    from infra.toolchain.errors import PostgresMissing, ToolchainError
    from infra.toolchain.progress import elapsed

    started = time.monotonic()
    state = root / ".holdfast"
    record = state / "setup.json"
    account = ensure_account()
    inputs = [root / "pyproject.toml", root / "uv.lock", *sorted(Path(__file__).parent.glob("*.py"))]
    facts = [account.name, str(root), str(cache_directory()), *(tool.key for tool in pins.TOOLS)]
    key = stamp.fingerprint(inputs, facts)
    if stamp.is_fresh(record, key):
        return
    if is_root() and not others_can_read(root / "pyproject.toml"):
        raise ToolchainError(
            f"the services run as {account.name!r}, who cannot read {root}: move the checkout to where "
            f"every user may go, e.g. /opt/holdfast (and see your umask), or run as an unprivileged user"
        )
    if is_root():
        os.umask(0o022)
    state.mkdir(exist_ok=True)
    try:
        database = postgres.find_postgres()
    except PostgresMissing:
        if not is_root():
            raise
        database = postgres.install_postgres(_report)
    _report(f"PostgreSQL {'.'.join(map(str, database.version))} in {database.bin}")
    missing = [tool for tool in pins.TOOLS if find(tool) is None]
    go.check_go(missing)
    if missing:
        names = ", ".join(tool.name for tool in missing)
        _report(f"to build with Go: {names} (minutes, and up to 8 GB in Go's caches, the first time)")
    environment = root / ".venv"
    python = interpreter.find_interpreter(environment)
    home = state / "uv"
    installer = uv.find_uv(home) or uv.make_uv(home, python, _report)
    _report(f"Python environment in .venv with {python.path}")
    uv.sync(installer, root, python)
    tools = go.ensure([tool.name for tool in pins.TOOLS], _report)
    programs = {name: str(path) for name, path in tools.items()}
    programs |= {name: str(database.bin / name) for name in postgres.PROGRAMS}
    programs |= {name: str(environment / "bin" / name) for name in ("python", "holdfast")}
    absent = [path for path in programs.values() if not os.access(path, os.X_OK)]
    if absent:
        raise ToolchainError(f"{', '.join(absent)} should be there now and is not: this is a defect, report it")
    stamp.write(record, key, programs)
    _report(f"ready after {elapsed(started)}; services run as {account.name}")


def _report(line: str) -> None:
    print(f"setup: {line}", file=sys.stderr, flush=True)


def _newer_python() -> str | None:
    """A Python that can run this, if the one that does is too old to."""
    if sys.version_info >= (3, 11):  # noqa: UP036 - this script may be started by any Python
        return None
    names = ("python3.11", "python3.12", "python3.13", "python3.14")
    return next((found for found in map(shutil.which, names) if found), "")


if __name__ == "__main__":
    replacement = _newer_python()
    if replacement:
        os.execv(replacement, [replacement, *sys.argv])  # noqa: S606
    if replacement == "":
        print("setup: Python 3.11 or newer is needed: install it, then run `make setup` again", file=sys.stderr)
        sys.exit(2)
    # A script's own directory comes first on the path, and its `uv.py` is not a top-level module.
    sys.path[0] = str(ROOT)
    sys.exit(main())
