"""Where no database answers, every call says so in time, and nothing is left behind."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import psycopg
import pytest
from run_index import AuditLog, Deed, Epochs, IndexUnavailableError, RunIndex
from run_index.connections import Connections

pytestmark = pytest.mark.unit

CALLS: dict[str, Callable[[RunIndex], object]] = {
    "ensure_schema": lambda index: index.ensure_schema(),
    "accept": lambda index: index.accept("run-1", {}),
    "mark_scheduled": lambda index: index.mark_scheduled("run-1"),
    "close_run": lambda index: index.close_run("run-1", "completed"),
    "open_runs": lambda index: index.open_runs(),
    "get": lambda index: index.get("run-1"),
    "page": lambda index: index.page(status=None, limit=1, before=None),
    "count_open": lambda index: index.count_open(),
    "record an epoch": lambda index: Epochs(index.database).record(2, "a", datetime.now(UTC)),
    "record a sweep": lambda index: Epochs(index.database).record_sweep(2, 1, 0.5),
    "epochs": lambda index: Epochs(index.database).all(),
    "begin a deed": lambda index: AuditLog(index.database).begin(Deed("Ada", "operator", "here", "a", "cancel", "run")),
    "end a deed": lambda index: AuditLog(index.database).end(1, "done"),
    "deeds": lambda index: AuditLog(index.database).page(limit=1),
}


@pytest.fixture
def nobody() -> str:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"host=127.0.0.1 port={server.getsockname()[1]} user=x dbname=x"


@pytest.fixture
def silent() -> Iterator[str]:
    """A port where connections are accepted, and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"host=127.0.0.1 port={server.getsockname()[1]} user=x dbname=x sslmode=disable"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_where_nobody_listens_every_call_says_so(nobody: str, call: Callable[[RunIndex], object]) -> None:
    with pytest.raises(IndexUnavailableError, match="the run index can't be used: OperationalError"):
        call(RunIndex(nobody))


def test_a_password_is_in_no_error(nobody: str) -> None:
    with pytest.raises(IndexUnavailableError) as error:
        RunIndex(f"{nobody} password=s3cret").get("run-1")
    assert "s3cret" not in str(error.value)


def test_a_database_that_is_not_there_is_not_writable(nobody: str) -> None:
    assert not RunIndex(nobody).is_writable()
    assert RunIndex(nobody).standby_timeline() is None


def test_a_database_that_says_nothing_is_an_error_in_time(silent: str) -> None:
    began = time.monotonic()
    with pytest.raises(IndexUnavailableError, match="ConnectionTimeout"):
        RunIndex(silent, timeout=1).get("run-1")
    # libpq counts no less than two seconds.
    assert time.monotonic() - began < 4


def test_failures_use_up_no_connection(nobody: str) -> None:
    connections = Connections(nobody, timeout=0.01, limit=2)
    for _ in range(5):
        with pytest.raises(psycopg.OperationalError, match="refused"), connections.use():
            pytest.fail("there is no database")


def test_an_index_that_was_never_used_can_be_closed(nobody: str) -> None:
    index = RunIndex(nobody)
    index.close()
    index.close()
