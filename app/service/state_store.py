"""The region's workflows as its sidecars store them: signatures are handed out by no API of Dapr's."""

from __future__ import annotations

import psycopg
from pydantic_ai_dapr import StateStore
from run_index import IndexUnavailableError
from run_index.connections import Connections, NoConnectionError

READ_SECONDS = 5.0
READERS = 2


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
