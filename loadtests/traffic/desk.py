"""What customers, supervisors and clerks do at a deployment; each method tells an entry of what it waited for."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from holdfast.client import NotAnsweredError, RefusedError, RunView, Start, WaitingView
from pydantic import JsonValue

from loadtests.traffic.entries import Entry, Name, Tell
from loadtests.traffic.following import Follower

__all__ = ["Client", "Desk"]

GIVE_UP_SECONDS = 60.0
"""After which a run is not waited for any more."""
START_SECONDS, RETRY_SECONDS = 30.0, 0.3
HOLD_SECONDS = 3600.0
DRAIN_AGAIN_SECONDS = 0.2
LISTED = 1000


class Client(Protocol):
    """A client of a deployment that finds the active region; `HoldfastClient` is one."""

    def start(self, run_id: str, run_input: Mapping[str, JsonValue]) -> Start: ...
    def approve(self, run_id: str, call_id: str, *, approved: bool, who: str, message: str | None = None) -> Start: ...
    def waiting(self, run_id: str) -> list[WaitingView]: ...
    def run(self, run_id: str) -> RunView | None: ...
    def runs(
        self,
        *,
        status: str | None = None,
        agent: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        id_contains: str | None = None,
        limit: int = 1000,
    ) -> list[RunView]: ...


class Desk:
    """One load's clients together. Of `held_every` runs one waits for a supervisor; 0: none does.

    Safe to use from several threads. What is started and not ended at `close` is not told of.
    """

    def __init__(
        self,
        client: Client,
        inputs: Sequence[Mapping[str, JsonValue]],
        prefix: str,
        tell: Tell,
        *,
        held_every: int = 0,
        give_up: float = GIVE_UP_SECONDS,
    ) -> None:
        self._client, self._inputs, self._prefix, self._tell = client, list(inputs), prefix, tell
        self._held_every, self._give_up = held_every, give_up
        self._numbers, self._lock = itertools.count(1), threading.Lock()
        self._starting = 0
        self._held: dict[str, float] = {}
        self._first_region = ""
        self._follower = Follower(client, tell, give_up)
        self.moved_at: float | None = None
        """When a start was first acknowledged by another region than the first one was."""

    def begin_start(self) -> None:
        """Start a run, without waiting for what comes of it."""
        with self._lock:
            self._starting += 1
        threading.Thread(target=self._start, name="start", daemon=True).start()

    def decide(self) -> None:
        """Let every held run go on that waits for it."""
        with self._lock:
            held = dict(self._held)
        for run_id, since in held.items():
            try:
                calls = self._client.waiting(run_id)
            except NotAnsweredError:
                calls = []
            if calls:
                self._approve(run_id, calls[0].tool_call_id)
            elif time.time() - since > self._give_up:
                self._forget(run_id)
                self._said("approve", since, f"did not wait within {self._give_up:g} s", run_id)

    def look_at_list(self) -> None:
        """List the load's open runs, and tell how old the oldest end is that the list doesn't know of."""
        at, ended = time.time(), self._follower.ended()
        try:
            listed = self._client.runs(status="open", id_contains=self._prefix, limit=LISTED)
        except RefusedError as error:
            self._said("list", at, str(error.status))
            return
        except NotAnsweredError:
            self._said("list", at, "no answer")
            return
        self._said("list", at)
        oldest = min((ended[run.run_id] for run in listed if run.run_id in ended), default=at)
        self._tell(Entry(name="freshness", at=at, seconds=max(0.0, at - oldest)))

    @property
    def open_count(self) -> int:
        """How many runs are being started, held or followed."""
        with self._lock:
            return self._starting + len(self._held) + self._follower.open_count

    def drain(self) -> None:
        """Return when every run has ended or was given up. May be called when nobody starts any more."""
        while self.open_count:
            self.decide()
            time.sleep(DRAIN_AGAIN_SECONDS)

    def close(self) -> None:
        """Tell no more."""
        self._follower.stop()

    def _start(self) -> None:
        number = next(self._numbers)
        run_id, given = f"{self._prefix}{number:06d}", dict(self._inputs[number % len(self._inputs)])
        held = bool(self._held_every) and number % self._held_every == 0
        if held:
            given["hold_seconds"] = HOLD_SECONDS
        began = time.time()
        while True:
            tried = time.time()
            answer = self._client.start(run_id, given)
            if answer.outcome != "unknown" or tried - began > START_SECONDS:
                break
            self._said("retry", tried, answer.detail, run_id, answer.region)
            time.sleep(RETRY_SECONDS)
        acknowledged = time.time()
        error = None if answer.outcome == "ok" else answer.detail.partition(":")[0]
        self._said("start", began, error, run_id, answer.region)
        if error is None and not held:
            self._follower.follow(run_id, acknowledged)
        with self._lock:
            self._starting -= 1
            if error is None:
                self._first_region = self._first_region or answer.region
                if answer.region != self._first_region:
                    self.moved_at = self.moved_at or acknowledged
                if held:
                    self._held[run_id] = acknowledged

    def _approve(self, run_id: str, call_id: str) -> None:
        at = time.time()
        answer = self._client.approve(run_id, call_id, approved=True, who="the load")
        error = None if answer.outcome == "ok" else answer.detail.partition(":")[0]
        self._said("approve", at, error, run_id, answer.region)
        if answer.outcome == "unknown":
            return  # it still waits, or is found decided when it is asked again
        if error is None:
            self._follower.follow(run_id, time.time())
        self._forget(run_id)

    def _forget(self, run_id: str) -> None:
        with self._lock:
            self._held.pop(run_id, None)

    def _said(self, name: Name, at: float, error: str | None = None, run_id: str = "", region: str = "") -> None:
        told = Entry(name=name, at=at, seconds=time.time() - at, error=error, run_id=run_id, region=region)
        self._tell(told)
