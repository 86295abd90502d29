"""The region's metrics for a Prometheus outside it: the agent's own, its database's, and those of its neighbours.

Dapr's processes tell theirs in the clear and to anybody, so they do it on the loopback interface alone. The agent's
interface has TLS and a token, and hands them on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import LiteralString

import httpx
from cryptography import x509
from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from psycopg.rows import dict_row
from run_index import IndexUnavailableError
from run_index.database import Database
from serving import Problem
from serving.measuring import METRICS_PATH, TEXT

from region_agent.config import Neighbour
from region_agent.status import Status

_STATISTICS: LiteralString = """
select numbackends, xact_commit, xact_rollback, blks_read, blks_hit, tup_returned, tup_fetched, tup_inserted,
       tup_updated, tup_deleted, conflicts, deadlocks, temp_bytes, blk_read_time, sessions,
       pg_database_size(datname) as size_bytes
from pg_stat_database where datname = current_database()
"""
_LEVELS = frozenset({"numbackends", "size_bytes"})
_ACTIVITY: LiteralString = """
select coalesce(state, 'none') as state, count(*)::int as count,
       coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float as oldest
from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() group by 1
"""
_SERVER: LiteralString = """
select current_setting('max_connections')::int as max_connections, pg_is_in_recovery()::int as in_recovery,
       extract(epoch from pg_postmaster_start_time())::float as started
"""


class DatabaseCollector:
    """The region's database, primary or standby, by what every role may read of it.

    Names are those of PostgreSQL's usual exporter where it tells the same. `collect` raises IndexUnavailableError.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> list[Metric]:
        with self._database.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            statistics = cursor.execute(_STATISTICS).fetchone() or {}
            activity = cursor.execute(_ACTIVITY).fetchall()
            server = cursor.execute(_SERVER).fetchone() or {}
        metrics: list[Metric] = []
        for column, value in statistics.items():
            name = f"pg_stat_database_{column}" if column != "size_bytes" else "pg_database_size_bytes"
            family = GaugeMetricFamily if column in _LEVELS else CounterMetricFamily
            metrics.append(family(name, f"pg_stat_database.{column}", value=float(value or 0)))
        count = GaugeMetricFamily("pg_stat_activity_count", "Connections by state", labels=["state"])
        oldest = GaugeMetricFamily("pg_stat_activity_max_tx_duration", "Oldest transaction, seconds", labels=["state"])
        for row in activity:
            count.add_metric([row["state"]], row["count"])
            oldest.add_metric([row["state"]], row["oldest"])
        told = {
            ("pg_settings_max_connections", "How many connections it takes"): server["max_connections"],
            ("pg_replication_is_replica", "1 while it is a standby"): server["in_recovery"],
            ("pg_postmaster_start_time_seconds", "When it was started"): server["started"],
        }
        metrics += [GaugeMetricFamily(name, text, value=value) for (name, text), value in told.items()]
        return [*metrics, count, oldest]


class StatusCollector:
    """Turns an agent's status into metrics when it is scraped. `now` is in Unix seconds."""

    def __init__(self, status: Callable[[], Status], certificate: Path, now: Callable[[], float] = time.time) -> None:
        self._status, self._certificate, self._now = status, certificate, now

    def collect(self) -> list[Metric]:
        status = self._status()
        seen = status.patroni.dcs_last_seen if status.patroni else None
        gauges = {
            ("holdfast_region_active", "1 while the region executes runs"): float(status.role == "active"),
            ("holdfast_epoch", "The database's timeline"): float(status.epoch or 0),
            ("holdfast_role_since_seconds", "Unix time of the last change of role"): (
                status.since.timestamp() if status.since else 0.0
            ),
            ("holdfast_peer_silent_seconds", "How long the other region has not answered"): (
                status.early_release.silent_seconds
            ),
            ("holdfast_runs_open", "Accepted runs that have not ended"): float(status.open_runs),
            ("holdfast_runs_stuck", "Open runs without progress"): float(len(status.stuck)),
            ("holdfast_certificate_expires_seconds", "Unix time of the end of the region's certificate"): (
                _expires(self._certificate)
            ),
        }
        if seen is not None:
            gauges["holdfast_lease_age_seconds", "Since the database's Patroni last reached the lease store"] = max(
                0.0, self._now() - seen
            )
        metrics: list[Metric] = [GaugeMetricFamily(name, text, value=value) for (name, text), value in gauges.items()]
        metrics.append(CounterMetricFamily("holdfast_runs_swept", "Signals to open runs", value=status.runs_swept))
        decisions = CounterMetricFamily(
            "holdfast_early_release_decisions", "Decisions on the lost region's lease", labels=["reason"]
        )
        for reason, count in status.early_release.decisions.items():
            decisions.add_metric([reason], count)
        return [*metrics, decisions]


class Neighbours:
    """The metrics of the region's processes that tell theirs on the loopback interface."""

    def __init__(self, known: Sequence[Neighbour], client: httpx.AsyncClient, token: str) -> None:
        self._known = {one.process: one for one in known}
        self._client, self._token = client, token

    async def text(self, process: str) -> bytes:
        """What the process tells. Raises Problem where there is none of that name, or it doesn't answer."""
        one = self._known.get(process)
        if one is None:
            raise Problem(
                404, "not found", f"no process {process} has metrics here; there are {', '.join(self._known)}"
            )
        # It would be packed for the way through this machine's memory.
        headers = {"accept-encoding": "identity"} | ({"dapr-api-token": self._token} if one.takes_token else {})
        try:
            response = await self._client.get(f"http://127.0.0.1:{one.port}{METRICS_PATH}", headers=headers)
            return response.raise_for_status().content
        except httpx.HTTPError as error:
            raise Problem(503, "unavailable", f"{process} doesn't tell its metrics: {type(error).__name__}") from error


def add_metrics(app: FastAPI, registry: CollectorRegistry, database: Database, neighbours: Neighbours) -> None:
    """Tell the agent's metrics at `/metrics`, and below it those of the database and of the neighbours."""
    of_database = CollectorRegistry(auto_describe=False)
    of_database.register(DatabaseCollector(database))  # pyright: ignore[reportArgumentType]

    @app.get(METRICS_PATH)
    async def own() -> Response:  # pyright: ignore[reportUnusedFunction]
        return Response(generate_latest(registry), media_type=TEXT)

    @app.get(f"{METRICS_PATH}/database")
    async def of_the_database() -> Response:  # pyright: ignore[reportUnusedFunction]
        try:
            text = await asyncio.to_thread(generate_latest, of_database)
        except IndexUnavailableError as error:
            raise Problem(503, "unavailable", str(error)) from error
        return Response(text, media_type=TEXT)

    @app.get(f"{METRICS_PATH}/{{process}}")
    async def of_a_neighbour(process: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        return Response(await neighbours.text(process), media_type=TEXT)


def _expires(certificate: Path) -> float:
    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc.timestamp()
