"""The ledger: records every attempt at an effect durably, and applies each idempotency key once."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from refund_desk.payments.rules import EffectKind, decide, payload_digest

Outcome = Literal["applied", "duplicate", "conflict", "stale"]

_SCHEMA = """
create table if not exists attempts (
    seq integer primary key autoincrement,
    at real not null,
    key text not null,
    kind text not null,
    run_id text not null,
    region text not null,
    epoch integer not null,
    worker text not null,
    attempt integer not null,
    digest text not null,
    outcome text not null
);
create table if not exists effects (
    key text primary key,
    kind text not null,
    digest text not null,
    result text not null
);
"""


@dataclass(frozen=True)
class Caller:
    """On whose behalf an attempt is made. `epoch` is the fencing token."""

    key: str
    run_id: str
    region: str
    epoch: int
    worker: str
    attempt: int


@dataclass(frozen=True)
class Entry:
    """One recorded attempt. `at` is in Unix seconds."""

    seq: int
    at: float
    key: str
    kind: str
    run_id: str
    region: str
    epoch: int
    worker: str
    attempt: int
    digest: str
    outcome: Outcome


@dataclass(frozen=True)
class Recorded:
    """What became of an attempt, and the effect's result where it is in force."""

    outcome: Outcome
    result: dict[str, JsonValue] | None


class Ledger:
    """Once `attempt` has returned, the attempt and its effect are on disk.

    A key that was seen with the same payload is a `duplicate` and gets the first result; with another payload it
    is a `conflict`; an attempt of an older epoch than the newest seen is `stale`. Neither of the last two is
    applied. Safe to call from several threads.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._db.executescript(_SCHEMA)
        self._epoch: int = self._db.execute("select coalesce(max(epoch), 0) from attempts").fetchone()[0]

    def attempt(self, kind: EffectKind, caller: Caller, payload: dict[str, JsonValue]) -> Recorded:
        """Record an attempt, and apply its effect where its key is new."""
        digest = payload_digest(payload)
        with self._lock:
            self._db.execute("begin immediate")
            try:
                recorded = self._judge(kind, caller, digest, payload)
                self._db.execute(
                    "insert into attempts (at, key, kind, run_id, region, epoch, worker, attempt, digest, outcome)"
                    " values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        time.time(),
                        caller.key,
                        kind,
                        caller.run_id,
                        caller.region,
                        caller.epoch,
                        caller.worker,
                        caller.attempt,
                        digest,
                        recorded.outcome,
                    ),
                )
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")
            self._epoch = max(self._epoch, caller.epoch)
        return recorded

    def _judge(self, kind: EffectKind, caller: Caller, digest: str, payload: dict[str, JsonValue]) -> Recorded:
        if caller.epoch < self._epoch:
            return Recorded("stale", None)
        row = self._db.execute("select kind, digest, result from effects where key = ?", (caller.key,)).fetchone()
        if row is None:
            result = decide(kind, payload)
            self._db.execute(
                "insert into effects (key, kind, digest, result) values (?, ?, ?, ?)",
                (caller.key, kind, digest, json.dumps(result)),
            )
            return Recorded("applied", result)
        if (row[0], row[1]) != (kind, digest):
            return Recorded("conflict", None)
        return Recorded("duplicate", json.loads(row[2]))

    def entries(self, after: int = 0, limit: int = 1000) -> list[Entry]:
        """Recorded attempts with a sequence number over `after`, in order, at most `limit`."""
        with self._lock:
            rows = self._db.execute(
                "select seq, at, key, kind, run_id, region, epoch, worker, attempt, digest, outcome"
                " from attempts where seq > ? order by seq limit ?",
                (after, limit),
            ).fetchall()
        return [Entry(*row) for row in rows]

    def close(self) -> None:
        """Release the file."""
        self._db.close()
