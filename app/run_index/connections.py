"""Connections to a database that fails over: no backoff of an earlier failure may outlast the failover."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus

Value = TypeVar("Value")


class NoConnectionError(Exception):
    """All connections were in use for the whole time that a caller waits for one."""


class NoAnswerError(psycopg.OperationalError):
    """The server took a statement and said nothing in time; what became of it is unknown."""


class _Connection(psycopg.Connection):
    """Waits for the server until `deadline` (monotonic seconds) alone.

    The server's own timeout doesn't help where it is frozen, nor where a commit waits for a synchronous standby.
    """

    deadline = math.inf

    def wait(self, gen: PQGen[Value], interval: float = 0.1, timeout: float | None = None) -> Value:
        return super().wait(self._until_deadline(gen), interval)

    def _until_deadline(self, gen: PQGen[Value]) -> PQGen[Value]:
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > self.deadline:
                    raise NoAnswerError("the server did not answer in time")
                wanted = gen.send(ready)
        except StopIteration as ended:
            return ended.value


class Connections:
    """At most `limit` at once. Each is tested before use, and one that failed is closed, never used again.

    A new connection is tried whenever no tested one is there, so the first call after a failover succeeds. Raises
    psycopg's errors, NoAnswerError among them, and NoConnectionError: each after about `timeout` seconds at the latest.
    Safe to use from several threads.
    """

    def __init__(self, dsn: str, *, timeout: float, limit: int) -> None:
        self._dsn, self._timeout = dsn, timeout
        self._slots = threading.BoundedSemaphore(limit)
        self._idle: list[_Connection] = []
        self._lock, self._closed = threading.Lock(), False

    @contextmanager
    def use(self) -> Generator[psycopg.Connection]:
        """A connection in autocommit mode."""
        if not self._slots.acquire(timeout=self._timeout):
            raise NoConnectionError(f"no connection was free for {self._timeout:g} s")
        try:
            now = time.monotonic()
            # Half of the time is left for a new connection where those that are kept say nothing.
            connection = self._tested(now + self._timeout / 2) or self._new(now + self._timeout)
            connection.deadline = now + self._timeout
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._slots.release()

    def close(self) -> None:
        """Close those that nobody uses; the others close after their use."""
        with self._lock:
            self._closed, idle = True, self._idle
            self._idle = []
        for connection in idle:
            connection.close()

    def _tested(self, deadline: float) -> _Connection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            connection.deadline = deadline
            try:
                connection.execute("")
            except psycopg.Error:
                connection.close()
            else:
                return connection

    def _new(self, deadline: float) -> _Connection:
        return _Connection.connect(
            self._dsn,
            autocommit=True,
            # libpq takes whole seconds, and 1 as 2.
            connect_timeout=max(2, int(deadline - time.monotonic())),
            options=f"-c statement_timeout={int(self._timeout * 1000)}",
        )

    def _give_back(self, connection: _Connection) -> None:
        with self._lock:
            if not self._closed and connection.info.transaction_status is TransactionStatus.IDLE:
                self._idle.append(connection)
                return
        connection.close()
