"""The region's workflows as its sidecars store them: signatures are handed out by no API of Dapr's.

A standby has no sidecars that run, and its database has all that the active region's has.
"""

from __future__ import annotations

import psycopg
from pydantic_ai_dapr import Export, ExportError, HistoryEvent, StateStore
from pydantic_ai_dapr.export import MEANWHILE
from pydantic_ai_dapr.journal import whole_history
from pydantic_ai_dapr.payloads import Payloads
from run_index import IndexUnavailableError
from run_index.connections import Connections, NoConnectionError

READ_SECONDS = 5.0
READERS = 2
EVENTS = 1000
"""How many events of a history are asked for at first."""


def state_store(app_id: str, dsn: str) -> StateStore:
    """Reads the table of Dapr's PostgreSQL component (version v2). Raises IndexUnavailableError."""
    connections = Connections(dsn, timeout=READ_SECONDS, limit=READERS)

    def read(keys: list[str]) -> dict[str, bytes]:
        try:
            with connections.use() as connection:
                query = "select key, value from state where key = any(%s)"
                return dict(connection.execute(query, [keys]).fetchall())
        except (psycopg.OperationalError, psycopg.InternalError, NoConnectionError) as error:
            raise IndexUnavailableError(f"the state store can't be read: {type(error).__name__}") from error

    return StateStore(app_id, read)


def stored_history(store: StateStore, run_id: str) -> list[HistoryEvent]:
    """A run's events since it began, read without a sidecar; none where there is no workflow of that id.

    Raises IndexUnavailableError, and PayloadLostError where something that it refers to isn't there.
    """
    asked = EVENTS
    while len(recorded := store.stored(run_id, asked).events) >= asked + MEANWHILE:
        asked *= 4
    try:
        return whole_history(Export.of(run_id, recorded).events, Payloads(_Beside(store)))
    except ExportError:
        return []


class _Beside:
    """What the app keeps beside its histories, for reading."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def read(self, key: str) -> bytes | None:
        stored = f"{self._store.app_id}||{key}"
        value = self._store.read([stored]).get(stored)
        return None if value is None else bytes(value)

    def write(self, key: str, value: bytes) -> None:
        raise NotImplementedError("a standby only reads")

    def delete(self, key: str) -> None:
        raise NotImplementedError("a standby only reads")
