"""A database that stops, freezes or only reads costs an error in time, and the first call afterwards succeeds."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from run_index import IndexUnavailableError, RunIndex

from tests.component.dapr_stack import until
from tests.component.run_index.conftest import TIMEOUT_SECONDS, Database

pytestmark = pytest.mark.component

INPUT = {"prompt": "a refund, please"}
SLACK_SECONDS = 3.0
"""What connecting may take on top, as libpq counts no less than two seconds, and a busy machine."""


@contextmanager
def in_time() -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < TIMEOUT_SECONDS + SLACK_SECONDS, f"the call took {took:.1f} s"


def open_eight(index: RunIndex) -> None:
    """Leave eight connections in the pool."""
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(index.database._connections.use())
    assert len(index.database._connections._idle) == 8


def test_the_first_call_after_a_restart_succeeds_although_every_connection_is_stale(
    database: Database, index: RunIndex
) -> None:
    open_eight(index)
    database.stop()
    with in_time(), pytest.raises(IndexUnavailableError, match="the run index can't be used"):
        index.accept("run-1", INPUT)
    assert not index.is_writable()
    database.start()
    assert index.accept("run-1", INPUT).outcome == "created"


def test_a_restart_between_two_calls_is_not_noticed(database: Database, index: RunIndex) -> None:
    open_eight(index)
    database.stop()
    database.start()
    assert index.accept("run-1", INPUT).outcome == "created"
    assert index.is_writable()


def test_calls_under_way_when_the_database_is_killed_fail_and_later_ones_succeed(
    database: Database, index: RunIndex
) -> None:
    failures: list[Exception] = []
    going, enough = threading.Event(), threading.Event()

    def call() -> None:
        while not enough.is_set():
            try:
                index.count_open()
                going.set()
            except IndexUnavailableError as error:
                failures.append(error)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert going.wait(10)
    database.stop("immediate")
    until("an error", lambda: failures)
    database.start()
    assert index.count_open() == 0
    enough.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    "call",
    [
        lambda index: index.accept("run-2", INPUT),
        lambda index: index.get("run-1"),
        lambda index: index.open_runs(),
        lambda index: index.close_run("run-1", "completed"),
        lambda index: index.ensure_schema(),
    ],
    ids=["accept", "get", "open_runs", "close_run", "ensure_schema"],
)
def test_a_database_that_is_frozen_is_an_error_in_time(
    database: Database, index: RunIndex, call: Callable[[RunIndex], object]
) -> None:
    index.accept("run-1", INPUT)
    open_eight(index)
    with database.frozen(), in_time(), pytest.raises(IndexUnavailableError):
        call(index)
    assert index.get("run-1") is not None


def test_a_database_that_is_frozen_is_not_writable(database: Database, index: RunIndex) -> None:
    open_eight(index)
    with database.frozen(), in_time():
        assert not index.is_writable()
    assert index.is_writable()


def first_refused(index: RunIndex) -> str:
    """Starts runs until one is refused: the server heeds a setting a moment later."""
    deadline = time.monotonic() + 10
    for number in itertools.count():
        try:
            index.accept(f"run-{number}", INPUT)
        except IndexUnavailableError:
            return f"run-{number}"
        assert time.monotonic() < deadline, f"{number + 1} starts were acknowledged without a standby"
    raise AssertionError


def test_a_start_that_no_synchronous_standby_confirms_is_not_acknowledged(database: Database, index: RunIndex) -> None:
    database.execute("alter system set synchronous_standby_names = 'nobody'")
    database.execute("select pg_reload_conf()")
    try:
        with in_time():
            refused = first_refused(index)
        assert index.get(refused) is None
    finally:
        database.execute("alter system reset synchronous_standby_names")
        database.execute("select pg_reload_conf()")
    until("the start's end", lambda: index.get(refused))
    assert index.accept(refused, INPUT).outcome == "existing"


def test_a_start_that_is_not_in_the_table_is_not_acknowledged(database: Database, index: RunIndex) -> None:
    database.execute("create function holdfast.lose() returns trigger language plpgsql as 'begin return null; end'")
    database.execute("create trigger lose before insert on holdfast.runs for each row execute function holdfast.lose()")
    with pytest.raises(IndexUnavailableError, match="run run-1 was removed while it was being accepted"):
        index.accept("run-1", INPUT)


def test_a_statement_that_waits_for_another_ends_in_time(database: Database, index: RunIndex) -> None:
    index.accept("run-1", INPUT)
    with index.database._connections.use() as holder, holder.transaction():
        holder.execute("lock table holdfast.runs")
        with in_time(), pytest.raises(IndexUnavailableError):
            index.close_run("run-1", "completed")
    assert index.close_run("run-1", "completed")


def test_a_database_that_only_reads_refuses_a_start_and_still_answers(database: Database, index: RunIndex) -> None:
    index.accept("run-1", INPUT)
    database.execute("create role reader superuser login")
    database.execute("alter role reader set default_transaction_read_only = on")
    read_only = RunIndex(database.dsn.replace("user=postgres", "user=reader"), timeout=TIMEOUT_SECONDS)
    try:
        with pytest.raises(IndexUnavailableError, match="ReadOnlySqlTransaction"):
            read_only.accept("run-2", INPUT)
        assert read_only.get("run-1") is not None
    finally:
        read_only.close()
        database.execute("drop role reader")


def test_a_caller_that_finds_every_connection_in_use_is_told_in_time(database: Database, index: RunIndex) -> None:
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(index.database._connections.use())
        with in_time(), pytest.raises(IndexUnavailableError, match="NoConnectionError"):
            index.get("run-1")
    assert index.get("run-1") is None


def test_an_index_that_was_closed_leaves_no_connection_behind(database: Database, index: RunIndex) -> None:
    def connections() -> object:
        return database.execute(
            "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
        )[0][0]

    open_eight(index)
    assert connections() == 8
    with index.database._connections.use():
        index.close()
    until("every connection's end", lambda: connections() == 0)
