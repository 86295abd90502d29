"""A stamp is fresh only if nothing that set-up reads has changed and everything that it made is still there.

It costs no process to check, so `make` may ask before every target.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import cast

__all__ = ["fingerprint", "is_fresh", "write"]


def fingerprint(inputs: Iterable[Path], facts: Iterable[str]) -> str:
    """Changes with the content of any input and with any fact."""
    digest = hashlib.sha256()
    for path in inputs:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    for fact in facts:
        digest.update(f"{fact}\n".encode())
    return digest.hexdigest()


def is_fresh(stamp: Path, key: str) -> bool:
    """Whether set-up finished with this key and every program that it found or made can still be run."""
    try:
        content = cast("dict[str, object]", json.loads(stamp.read_text(encoding="utf-8")))
        programs = cast("dict[str, str]", content["programs"])
        return content["key"] == key and all(os.access(path, os.X_OK) for path in programs.values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def write(stamp: Path, key: str, programs: dict[str, str]) -> None:
    """Records a finished set-up, in one rename."""
    draft = stamp.with_suffix(".new")
    draft.write_text(json.dumps({"key": key, "programs": programs}, indent=2) + "\n", encoding="utf-8")
    draft.replace(stamp)
