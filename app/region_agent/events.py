"""What the agent did and why, one JSON object a line: evidence for drills and for people."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

from pydantic import JsonValue

log = logging.getLogger(__name__)


class EventLog:
    """Appends events; a line is on its way to the disk when `record` returns. `at` is in Unix seconds."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def record(self, event: str, **members: JsonValue) -> None:
        """Append one event."""
        self._file.write(json.dumps({"at": time.time(), "event": event, **members}) + "\n")
        log.info("%s %s", event, members)
