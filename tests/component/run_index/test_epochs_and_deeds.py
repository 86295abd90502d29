"""What is recorded beside the runs: each activation once, with its last sweep; each deed before its outcome."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from run_index import AuditLog, Deed, Epoch, Epochs, IndexUnavailableError, RunIndex

from tests.component.run_index.conftest import Database

pytestmark = pytest.mark.component

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
DEED = Deed("Ada", "operator", "192.0.2.1", "a", "cancel", "run-1", "why not")


def test_an_activation_keeps_its_first_time_and_its_last_sweep(index: RunIndex) -> None:
    epochs = Epochs(index.database)
    epochs.record(3, "b", AT)
    epochs.record(2, "a", AT - timedelta(hours=1))
    epochs.record(3, "a", AT + timedelta(hours=1))
    epochs.record_sweep(3, 7, 0.5)
    epochs.record_sweep(3, 8, 0.25)
    epochs.record_sweep(9, 1, 1.0)
    first, second = epochs.all()
    assert first == Epoch(2, "a", AT - timedelta(hours=1))
    assert (second.epoch, second.region, second.activated_at) == (3, "b", AT)
    assert (second.swept_runs, second.sweep_seconds) == (8, 0.25)
    assert second.swept_at is not None


def test_a_deed_is_there_before_its_outcome_and_the_first_outcome_stays(index: RunIndex) -> None:
    audit = AuditLog(index.database)
    number = audit.begin(DEED)
    [entry] = audit.page(limit=10)
    assert (entry.id, entry.who, entry.detail, entry.outcome) == (number, "Ada", "why not", None)
    assert datetime.now(UTC) - entry.at < timedelta(minutes=1)
    audit.end(number, "done")
    audit.end(number, "failed")
    assert audit.page(limit=10)[0].outcome == "done"


def test_deeds_are_told_newest_first_a_page_at_a_time_and_by_their_subject(index: RunIndex) -> None:
    audit = AuditLog(index.database)
    numbers = [audit.begin(Deed("Ada", "operator", "here", "a", "rerun", f"run-{n % 2}")) for n in range(5)]
    page = audit.page(limit=2)
    assert [one.id for one in page] == numbers[:-3:-1]
    assert [one.id for one in audit.page(limit=10, before=page[-1].id)] == numbers[2::-1]
    assert {one.subject for one in audit.page(limit=10, subject="run-1")} == {"run-1"}
    assert [one.is_about_a_run for one in page] == [True, True]


@pytest.mark.parametrize("hostile", ["a\x00b", "'; drop table holdfast.audit; --", "\U0001f600" * 100])
def test_whatever_somebody_calls_themselves_is_recorded(index: RunIndex, hostile: str) -> None:
    audit = AuditLog(index.database)
    number = audit.begin(Deed(hostile, "viewer", hostile, "a", "sign in", "", hostile))
    audit.end(number, hostile)
    [entry] = audit.page(limit=1)
    assert entry.who == entry.outcome == hostile.replace("\x00", "\ufffd")
    assert not entry.is_about_a_run


def test_a_database_that_only_reads_tells_all_and_records_nothing(index: RunIndex, database: Database) -> None:
    epochs, audit = Epochs(index.database), AuditLog(index.database)
    epochs.record(2, "a", AT)
    audit.begin(DEED)
    database.execute("alter database postgres set default_transaction_read_only = on")
    reader = RunIndex(database.dsn)
    try:
        with pytest.raises(IndexUnavailableError):
            AuditLog(reader.database).begin(DEED)
        assert (len(Epochs(reader.database).all()), len(AuditLog(reader.database).page(limit=9))) == (1, 1)
    finally:
        reader.close()
        may_write = f"{database.dsn} options='-c default_transaction_read_only=off'"
        with psycopg.connect(may_write, autocommit=True) as connection:
            connection.execute("alter database postgres reset default_transaction_read_only")
