"""The virtual environment holds exactly what `uv.lock` says, and the services can read all of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from infra.toolchain.account import is_root
from infra.toolchain.errors import ToolchainError
from infra.toolchain.interpreter import Interpreter
from infra.toolchain.postgres import apt_install
from infra.toolchain.progress import Progress

__all__ = ["VERSION", "find_uv", "make_uv", "sync"]

VERSION = "0.13.9"
"""The uv that is installed where there is none; any uv that is there already may read the lock."""


def find_uv(home: Path) -> Path | None:
    """A uv that starts: the one on PATH, else the one that `make_uv` put at `home`."""
    on_path = shutil.which("uv")
    for candidate in ([Path(on_path)] if on_path else []) + [_binary(home)]:
        if candidate.is_file() and _run([str(candidate), "--version"]).returncode == 0:
            return candidate
    return None


def make_uv(home: Path, interpreter: Interpreter, progress: Progress) -> Path:
    """Installs the pinned uv at `home`, from the package index that pip is configured for.

    Debian splits `ensurepip` off: without it, an installed pip serves; without that, root gets it by apt-get.
    """
    progress(f"installing uv {VERSION} into {home}")
    failure = _install(home, interpreter)
    if failure and is_root() and shutil.which("apt-get"):
        progress("installing python3-venv with apt-get")
        apt_install("python3-venv")
        failure = _install(home, interpreter)
    if failure:
        raise ToolchainError(
            f"uv could not be installed:\n{failure}\n"
            f"install uv yourself and put it on PATH, or install the `venv` module of {interpreter.path} "
            f"(Debian: python3-venv), then run `make setup` again"
        )
    return _binary(home)


def sync(uv: Path, project: Path, interpreter: Interpreter) -> None:
    """Makes `.venv` equal to `uv.lock`; uv's own progress goes to standard error."""
    # Compiled here once: the service account may not write beside the sources.
    arguments = ["sync", "--locked", "--all-groups", "--compile-bytecode", "--python", str(interpreter.path)]
    answer = subprocess.run([uv, *arguments], cwd=project, env=_environment(), check=False)
    if answer.returncode != 0:
        raise ToolchainError(
            f"`uv {' '.join(arguments)}` failed with status {answer.returncode}, see above: "
            f"if it could not reach the package index, set HTTPS_PROXY, or SSL_CERT_FILE to the certificates "
            f"of a proxy that inspects TLS; then run `make setup` again"
        )


def _install(home: Path, interpreter: Interpreter) -> str:
    """Nothing if uv is at `home` now, else why not."""
    requirement = f"uv=={VERSION}"
    python = str(interpreter.path)
    shutil.rmtree(home, ignore_errors=True)
    venv = _run([python, "-m", "venv", str(home)])
    if venv.returncode == 0:
        pip = _run([str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", requirement])
    else:
        shutil.rmtree(home, ignore_errors=True)
        pip = _run([python, "-m", "pip", "install", "--quiet", "--target", str(home), requirement])
    if pip.returncode == 0 and _binary(home).is_file():
        return ""
    return "\n".join(f"    {line}" for line in (venv.stdout + pip.stdout + pip.stderr).splitlines()[-10:])


def _environment() -> dict[str, str]:
    ignored = {"VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON"}
    environment = {name: value for name, value in os.environ.items() if name not in ignored}
    environment["UV_PYTHON_DOWNLOADS"] = "never"
    if is_root() and environment.get("UV_LINK_MODE") == "symlink":
        # Links into root's own cache lead the service account nowhere.
        environment["UV_LINK_MODE"] = "copy"
    return environment


def _binary(home: Path) -> Path:
    return home / "bin" / "uv"


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
