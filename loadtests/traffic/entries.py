"""What clients were told: one entry for each start, completion, approval and look at the list, kept as it happens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Book", "Entry", "Name", "Tail", "Tell"]

Name = Literal["start", "retry", "complete", "approve", "list", "freshness"]


class Entry(BaseModel):
    """One thing that a client waited for: it began `at` (seconds since 1970) and took `seconds`.

    `start`: until the start was acknowledged, however often it was tried; `retry`: each try without an answer.
    `complete`: from the acknowledgement, or from the decision that the run waited for, until the run had ended.
    `freshness` is no wait: the age of the oldest news that a look at the list did not tell.
    `error` is the kind of what went wrong; None where nothing did.
    """

    model_config = ConfigDict(frozen=True)

    name: Name
    at: float
    seconds: float
    error: str | None = None
    run_id: str = ""
    region: str = ""


Tell = Callable[[Entry], None]


class Book:
    """Appends each entry to a file as one line, before the next; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._lock = path.open("a", encoding="utf-8"), threading.Lock()

    def __call__(self, entry: Entry) -> None:
        """Keep it."""
        with self._lock:
            self._file.write(entry.model_dump_json(exclude_defaults=True) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Keep no more."""
        self._file.close()


class Tail:
    """Reads a book while it is written: each entry once. A line that is not finished is left for later."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0
        self.entries: list[Entry] = []

    def read(self) -> list[Entry]:
        """Everything until now."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._at)
                whole = file.read().rpartition(b"\n")[0]
            self._at += len(whole) + 1 if whole else 0
            self.entries += [Entry.model_validate_json(line) for line in whole.splitlines()]
        return self.entries
