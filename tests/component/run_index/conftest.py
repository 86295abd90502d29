"""A database of the tests' own, and the run index in it."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import psycopg
import pytest
from run_index import RunIndex

from infra.toolchain import ToolchainError
from tests.component.dapr_stack import until
from tests.component.database import Database, own_database

TIMEOUT_SECONDS = 2.0


@pytest.fixture(scope="module")
def server() -> Iterator[Database]:
    try:
        with own_database() as made:
            yield made
    except ToolchainError as error:
        pytest.skip(str(error))


@pytest.fixture
def database(server: Database) -> Database:
    """The server, running, with no table yet."""
    if not psutil.pid_exists(server.postmaster):
        server.start()
    until("the database's answer", lambda: _answers(server))
    server.execute("drop schema if exists holdfast cascade")
    return server


@pytest.fixture
def index(database: Database) -> Iterator[RunIndex]:
    """The index, with its table."""
    made = RunIndex(database.dsn, timeout=TIMEOUT_SECONDS)
    made.ensure_schema()
    yield made
    made.close()


def _answers(server: Database) -> bool:
    try:
        return server.execute("select 1") == [(1,)]
    except psycopg.OperationalError:
        return False
