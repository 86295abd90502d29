"""The region's own database node, as its processes use it: primary in one region, a readable standby in the other."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import psycopg

from run_index.connections import Connections, NoConnectionError


class IndexUnavailableError(Exception):
    """The database did not answer in time, or is not the primary; the outcome of a write is unknown."""


class NotStorableError(ValueError):
    """The database can't hold a value, such as text with a NUL character; trying again would not help."""


class Database:
    """Connections whose failures are of two kinds: the database's condition, or a value that it can't hold.

    Every use ends within about `timeout` seconds. Safe to use from several threads.
    """

    def __init__(self, dsn: str, *, timeout: float = 5.0, max_connections: int = 8) -> None:
        self._connections = Connections(dsn, timeout=timeout, limit=max_connections)

    @contextmanager
    def connection(self) -> Generator[psycopg.Connection]:
        """A connection in autocommit mode. Raises IndexUnavailableError and NotStorableError."""
        try:
            with self._connections.use() as connection:
                yield connection
        except (psycopg.OperationalError, psycopg.InternalError, NoConnectionError) as error:
            raise IndexUnavailableError(f"the run index can't be used: {type(error).__name__}") from error
        except psycopg.DataError as error:
            raise NotStorableError(f"a value can't be stored: {str(error).splitlines()[0]}") from error

    def close(self) -> None:
        """Close every connection."""
        self._connections.close()
