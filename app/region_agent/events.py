"""What the agent did and why, one JSON object a line: evidence for drills and for people."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import JsonValue

log = logging.getLogger(__name__)


Hearer = Callable[[str, float, Mapping[str, JsonValue]], None]


def nobody(event: str, at: float, members: Mapping[str, JsonValue]) -> None:
    """Hears nothing."""


def all_of(*hearers: Hearer) -> Hearer:
    """Each of them hears."""

    def hear(event: str, at: float, members: Mapping[str, JsonValue]) -> None:
        for hearer in hearers:
            hearer(event, at, members)

    return hear


class EventLog:
    """Appends events; a line is on its way to the disk when `record` returns. `at` is in Unix seconds.

    `hearer` is told of each: its name, when it was, and its members.
    """

    def __init__(self, path: Path, hearer: Hearer = nobody) -> None:
        self._hearer = hearer
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def record(self, event: str, **members: JsonValue) -> None:
        """Append one event."""
        at = time.time()
        self._file.write(json.dumps({"at": at, "event": event, **members}) + "\n")
        log.info("%s", event, extra={"about": members})
        self._hearer(event, at, members)
