"""Whoever waits for the toolchain is told what for, and for how long already."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Progress", "elapsed", "silent"]

Progress = Callable[[str], None]
"""Takes one line of progress, without its newline."""


def silent(line: str) -> None:
    """Progress for callers that want none."""


def elapsed(since: float) -> str:
    """Whole seconds since a reading of `time.monotonic()`, e.g. `92 s`."""
    return f"{time.monotonic() - since:.0f} s"
