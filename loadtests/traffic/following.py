"""Follows accepted runs to their end, with so few questions that they are no load of their own."""

from __future__ import annotations

import heapq
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from holdfast.client import NotAnsweredError, RefusedError, RunView

from loadtests.traffic.entries import Entry, Tell

__all__ = ["ENDED", "Follower", "Runs"]

ENDED = frozenset({"completed", "failed", "terminated"})
LOOKERS = 4
FIRST_LOOK_SECONDS, LOOK_AGAIN_SECONDS = 1.0, 0.5
LOOKS_PER_SECOND = 40
"""At most, however many runs are open."""
IDLE_SECONDS = 0.05
REMEMBERED_SECONDS = 60.0
"""How long it is remembered that a run has ended, for those who ask what the list doesn't tell."""


class Runs(Protocol):
    """Tells of a run; `HoldfastClient` does."""

    def run(self, run_id: str) -> RunView | None: ...


@dataclass(order=True)
class _Followed:
    due: float
    run_id: str = field(compare=False)
    since: float = field(compare=False)
    looked: float = field(compare=False)


class Follower:
    """Tells `complete` of every run that it is given: when it has ended, or has not within `give_up` seconds.

    A run has ended when its workflow says so, but not before it was last seen open, nor after it was first seen
    ended: that holds with any clock, and is exact with a right one.
    """

    def __init__(self, client: Runs, tell: Tell, give_up: float) -> None:
        self._client, self._tell, self._give_up = client, tell, give_up
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._due: list[_Followed] = []
        self._open: set[str] = set()
        self._ended: dict[str, float] = {}
        for number in range(LOOKERS):
            threading.Thread(target=self._follow, name=f"follower {number}", daemon=True).start()

    def follow(self, run_id: str, since: float) -> None:
        """Follow a run that goes on by itself since then."""
        with self._lock:
            self._open.add(run_id)
            heapq.heappush(self._due, _Followed(since + FIRST_LOOK_SECONDS, run_id, since, since))

    @property
    def open_count(self) -> int:
        """How many runs are followed and have not ended."""
        with self._lock:
            return len(self._open)

    def ended(self) -> dict[str, float]:
        """When each run ended that has lately."""
        with self._lock:
            return dict(self._ended)

    def stop(self) -> None:
        """Follow no more."""
        self._stop.set()

    def _follow(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                one = heapq.heappop(self._due) if self._due and self._due[0].due <= time.time() else None
            if one is None:
                self._stop.wait(IDLE_SECONDS)
            else:
                self._look(one)

    def _look(self, one: _Followed) -> None:
        asked = time.time()
        try:
            view = self._client.run(one.run_id)
        except RefusedError as error:
            self._end(one, asked, f"{error.status} when looked at")
            return
        except NotAnsweredError:
            self._again(one)
            return
        if view is None:
            self._end(one, asked, "accepted and not known")
        elif view.status in ENDED:
            updated = datetime.fromisoformat(view.updated_at).timestamp() if view.updated_at else time.time()
            failure = None if view.status == "completed" else f"{view.status} {(view.error or '').partition(':')[0]}"
            self._end(one, max(one.looked, min(updated, time.time())), failure and failure.strip())
        else:
            one.looked = asked
            self._again(one)

    def _again(self, one: _Followed) -> None:
        now = time.time()
        if now - one.since > self._give_up:
            self._end(one, now, f"not ended within {self._give_up:g} s")
            return
        with self._lock:
            one.due = now + max(LOOK_AGAIN_SECONDS, len(self._open) / LOOKS_PER_SECOND)
            heapq.heappush(self._due, one)

    def _end(self, one: _Followed, at: float, error: str | None) -> None:
        with self._lock:
            self._open.discard(one.run_id)
            if error is None:
                self._ended = {run: when for run, when in self._ended.items() if at - when < REMEMBERED_SECONDS}
                self._ended[one.run_id] = at
        self._tell(Entry(name="complete", at=one.since, seconds=at - one.since, error=error, run_id=one.run_id))
