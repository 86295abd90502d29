"""The Python that is picked runs Holdfast, for the services too: as root that means another user.

A virtual environment only links to its interpreter, so an interpreter under root's home would leave the
services without one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from infra.toolchain.account import is_root, others_can_execute, others_can_read
from infra.toolchain.errors import ToolchainError

__all__ = ["OLDEST", "Interpreter", "find_interpreter"]

OLDEST = (3, 11)

_NAMES = ("python3.11", "python3.12", "python3.13", "python3.14", "python3")
_SYSTEM = ("/usr/bin", "/usr/local/bin")
_ASK = "import json, sys; print(json.dumps([sys.version_info[:2], sys._base_executable, sys.base_prefix]))"
_ASK_SECONDS = 20.0


@dataclass(frozen=True)
class Interpreter:
    """A Python outside any virtual environment."""

    path: Path
    version: tuple[int, int]
    prefix: Path


def find_interpreter(environment: Path) -> Interpreter:
    """A usable Python, preferring the one that the virtual environment at `environment` already has."""
    rejected: list[str] = []
    for candidate in dict.fromkeys(_candidates(environment)):
        interpreter = _ask(candidate)
        if interpreter is None:
            continue
        if interpreter.version < OLDEST:
            rejected.append(f"{candidate} is {'.'.join(map(str, interpreter.version))}")
        elif is_root() and not _open_to_others(interpreter):
            rejected.append(f"{candidate} ({interpreter.path}) cannot be run by another user than root")
        else:
            return interpreter
    seen = f"; {'; '.join(rejected)}" if rejected else ""
    raise ToolchainError(
        f"no usable Python {'.'.join(map(str, OLDEST))} or newer was found{seen}: "
        f"install one for all users, e.g. `apt-get install python3`, then run `make setup` again"
    )


def _candidates(environment: Path) -> Iterator[Path]:
    yield environment / "bin" / "python"
    directories = [*os.environ.get("PATH", "").split(os.pathsep), *_SYSTEM]
    for name in _NAMES:
        for directory in directories:
            if directory and (program := shutil.which(name, path=directory)):
                yield Path(program)
    yield Path(sys.executable)


def _ask(candidate: Path) -> Interpreter | None:
    """What a Python says of itself; nothing if it is none, or a version manager's empty shim."""
    try:
        answer = subprocess.run(
            [candidate, "-I", "-c", _ASK],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ASK_SECONDS,
            check=True,
        )
        version, path, prefix = cast("tuple[list[int], str, str]", json.loads(answer.stdout))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Interpreter(Path(path), (version[0], version[1]), Path(prefix))


def _open_to_others(interpreter: Interpreter) -> bool:
    library = interpreter.prefix / "lib" / f"python{interpreter.version[0]}.{interpreter.version[1]}" / "os.py"
    return others_can_execute(interpreter.path) and others_can_read(library)
