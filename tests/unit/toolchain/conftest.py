"""A machine of its own for each test; programs are scripts in a temporary directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from infra.toolchain import account, binaries, cache, interpreter, pins, postgres, uv

Script = Callable[..., Path]
"""Name, body and, if not on PATH, directory of a shell script; answers with its path."""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An unprivileged user with an empty home, and nothing on PATH."""
    for name in ("bin", "home"):
        (tmp_path / name).mkdir()
    # A fake that writes relative to where it is started must not find the checkout there.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    for name in ("XDG_CACHE_HOME", "UV_LINK_MODE"):
        monkeypatch.delenv(name, raising=False)
    _become(monkeypatch, root=False)
    binaries._version_output.cache_clear()
    return tmp_path


@pytest.fixture
def become_root(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, the toolchain takes itself to be run by root."""
    return lambda: _become(monkeypatch, root=True)


@pytest.fixture
def script(machine: Path) -> Script:
    """Writes a shell script as a program, on PATH unless told where."""

    def write(name: str, body: str, directory: Path | None = None) -> Path:
        path = (directory or machine / "bin") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def fake_go(script: Script) -> Path:
    """A Go that is new enough, and whose every build succeeds."""
    return script("go", 'case $1 in env) echo go1.26.8;; build) echo "#!/bin/sh" > "$3";; esac')


@pytest.fixture
def put_in_cache(machine: Path) -> Callable[[pins.Tool], Path]:
    """Puts a tool where a build would have put it."""

    def put(tool: pins.Tool) -> Path:
        path = cache.cached(tool)
        path.parent.mkdir(parents=True)
        path.write_text("", encoding="utf-8")
        path.chmod(0o755)
        return path

    return put


def _become(monkeypatch: pytest.MonkeyPatch, *, root: bool) -> None:
    for module in (account, binaries, cache, interpreter, postgres, uv):
        monkeypatch.setattr(module, "is_root", lambda: root)
