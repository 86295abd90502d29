"""The workflow's time, for what an agent's code took from the clock of the process that executed it.

PydanticAI stamps each message with the clock: executed again, after a crash, the same code would give it another time.
But while a run's coroutine runs the workflow's time stands still, so it is known for all that the clock showed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import takewhile
from operator import is_

from pydantic_ai.messages import ModelMessage


class RunClock:
    """When a run's coroutine ran in this process, and at which times of the workflow."""

    def __init__(self) -> None:
        self._began: list[datetime] = []
        self._until: list[tuple[datetime, datetime]] = []
        self._set: Sequence[ModelMessage] = ()

    @contextmanager
    def running(self, at: datetime) -> Generator[None]:
        """The coroutine runs in here, at the workflow's time `at`."""
        self._began.append(datetime.now(UTC))
        self._until.append((datetime.max.replace(tzinfo=UTC), at))
        try:
            yield
        finally:
            self._until[-1] = (datetime.now(UTC), at)

    def time(self, shown: datetime) -> datetime:
        """The workflow's time when the clock showed this; `shown` itself where the coroutine did not run then."""
        number = bisect_right(self._began, shown) - 1
        if number < 0:
            return shown
        ended, at = self._until[number]
        return at if shown <= ended else shown

    def set(self, messages: Sequence[ModelMessage]) -> None:
        """Give the messages that the coroutine made the workflow's time; all others keep their own.

        A run gives all its messages at each model request: those that it began with the last time have theirs.
        """
        known = sum(takewhile(bool, map(is_, messages, self._set)))
        self._set = messages
        for message in messages[known:]:
            for stamped in (message, *message.parts):
                shown = getattr(stamped, "timestamp", None)
                if isinstance(shown, datetime) and shown.tzinfo is not None:
                    stamped.timestamp = self.time(shown)  # type: ignore[union-attr]
