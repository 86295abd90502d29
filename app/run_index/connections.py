"""Connections to a database that fails over: no backoff of an earlier failure may outlast the failover."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

import psycopg
from psycopg.pq import TransactionStatus


class NoConnectionError(Exception):
    """All connections were in use for the whole time that a caller waits for one."""


class Connections:
    """At most `limit` at once. Each is tested before use, and one that failed is closed, never used again.

    A new connection is tried whenever no tested one is there, so the first call after a failover succeeds. Raises
    psycopg's errors, and NoConnectionError after `timeout` seconds. Safe to use from several threads.
    """

    def __init__(self, dsn: str, *, timeout: float, limit: int) -> None:
        self._dsn, self._timeout = dsn, timeout
        self._slots = threading.BoundedSemaphore(limit)
        self._idle: list[psycopg.Connection] = []
        self._lock, self._closed = threading.Lock(), False

    @contextmanager
    def use(self) -> Generator[psycopg.Connection]:
        """A connection in autocommit mode."""
        if not self._slots.acquire(timeout=self._timeout):
            raise NoConnectionError(f"no connection was free for {self._timeout:g} s")
        try:
            connection = self._tested() or self._new()
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

    def _tested(self) -> psycopg.Connection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            try:
                connection.execute("")
            except psycopg.Error:
                connection.close()
            else:
                return connection

    def _new(self) -> psycopg.Connection:
        return psycopg.connect(
            self._dsn,
            autocommit=True,
            # libpq takes whole seconds, and 1 as 2.
            connect_timeout=max(2, int(self._timeout)),
            options=f"-c statement_timeout={int(self._timeout * 1000)}",
        )

    def _give_back(self, connection: psycopg.Connection) -> None:
        with self._lock:
            if not self._closed and connection.info.transaction_status is TransactionStatus.IDLE:
                self._idle.append(connection)
                return
        connection.close()
