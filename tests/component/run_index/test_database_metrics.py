"""What a region's database tells of itself to the app's own role, as metrics."""

from __future__ import annotations

import psycopg
import pytest
from prometheus_client import CollectorRegistry
from region_agent.metrics import DatabaseCollector
from run_index import IndexUnavailableError
from run_index.database import Database as Reached

from tests.component.run_index.conftest import Database

pytestmark = pytest.mark.component


def scraped(dsn: str) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(DatabaseCollector(Reached(dsn, timeout=2.0, max_connections=1)))  # type: ignore[arg-type]
    return registry


def test_a_role_without_rights_reads_commits_connections_and_the_oldest_transaction(database: Database) -> None:
    database.execute("drop role if exists nobody_special")
    database.execute("create role nobody_special login password 'x'")
    dsn = f"{database.dsn} user=nobody_special password=x"
    with psycopg.connect(dsn) as waiting:
        waiting.execute("select 1")
        registry = scraped(dsn)
        before = registry.get_sample_value("pg_stat_database_xact_commit_total")
        assert before is not None
        assert before > 0
        state = {"state": "idle in transaction"}
        assert registry.get_sample_value("pg_stat_activity_count", state) == 1
        assert 0 < (registry.get_sample_value("pg_stat_activity_max_tx_duration", state) or 0) < 60
    assert (registry.get_sample_value("pg_settings_max_connections") or 0) > 1
    assert registry.get_sample_value("pg_replication_is_replica") == 0
    assert (registry.get_sample_value("pg_database_size_bytes") or 0) > 1_000_000
    assert (registry.get_sample_value("pg_postmaster_start_time_seconds") or 0) > 1.7e9


def test_a_database_that_is_not_there_has_no_metrics(database: Database) -> None:
    with pytest.raises(IndexUnavailableError):
        scraped(f"{database.dsn} port=1").get_sample_value("pg_database_size_bytes")
