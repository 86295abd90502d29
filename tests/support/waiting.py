"""Waiting for what must happen, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

from holdfast.client import NotAnsweredError
from pydantic_ai_dapr import WorkflowUnavailableError


def until(what: str, condition: Callable[[], object], seconds: float = 90.0) -> None:
    """Return once `condition` holds; that nobody answers is no answer. Fails after `seconds`."""
    deadline, seen = time.monotonic() + seconds, None
    while True:
        try:
            seen = condition()
        except (NotAnsweredError, WorkflowUnavailableError) as error:
            seen = error
        else:
            if seen:
                return
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s; last seen: {seen!r}"
        time.sleep(0.2)
