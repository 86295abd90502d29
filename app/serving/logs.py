"""Logs as JSON, one object a line on standard error, each with what the process knows about where it happened."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from pydantic import JsonValue

About = Mapping[str, JsonValue]
_CHATTY = ("httpx", "httpcore", "durabletask-worker", "WorkflowRuntime")


def nothing() -> About:
    """What a process says that knows no more than its records."""
    return {}


def log_to_stderr(about: Callable[[], About] = nothing) -> None:
    """Write every record as `JsonLines` does; the supervisor keeps what comes to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(about))
    logging.basicConfig(level=os.environ.get("HOLDFAST_LOG_LEVEL", "INFO"), handlers=[handler])
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)


class JsonLines(logging.Formatter):
    """A record as one JSON object: time in UTC, level, logger and message, and whatever else is known.

    `about` is asked at each record, in the thread that logs: run, step, region, epoch, trace. A record brings its own
    as `extra={"about": {…}}`, which goes before.
    """

    def __init__(self, about: Callable[[], About] = nothing) -> None:
        super().__init__()
        self._about = about

    def format(self, record: logging.LogRecord) -> str:
        own: About = getattr(record, "about", {})
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._about(),
            **own,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)
