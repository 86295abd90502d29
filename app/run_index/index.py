"""Accept, find and close runs in the region's PostgreSQL."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import datetime
from hashlib import sha256
from importlib.resources import files
from typing import Literal, LiteralString

from psycopg.rows import class_row
from pydantic import JsonValue

from run_index.database import Database, IndexUnavailableError

RunInput = dict[str, JsonValue]
_SCHEMA_LOCK = 0x486F6C64


@dataclass(frozen=True)
class IndexedRun:
    """One accepted run. `closed_at` is set once its workflow was seen to have ended.

    A run that was run again is another run, `rerun_of` the old one: from operation `rerun_step`, or whole.
    """

    run_id: str
    input: RunInput
    accepted_at: datetime
    scheduled_at: datetime | None
    closed_at: datetime | None
    status: str
    error: str | None
    agent: str = ""
    rerun_of: str | None = None
    rerun_step: int | None = None


@dataclass(frozen=True)
class Acceptance:
    """What became of a start: `created` now, `existing` with the same input, or `conflict` with another one."""

    outcome: Literal["created", "existing", "conflict"]
    run: IndexedRun


_COLUMNS: LiteralString = (
    "run_id, input, accepted_at, scheduled_at, closed_at, status, error, agent, rerun_of, rerun_step"
)


class RunIndex:
    """A method returns once its transaction is committed, on the synchronous standby too where there is one.

    Every call ends within about `timeout` seconds, and raises `IndexUnavailableError` where the database didn't
    answer or refused to write. Connections are checked before use, so a failover costs an error, not a restart.
    Safe to use from several threads.
    """

    def __init__(self, dsn: str, *, timeout: float = 5.0, max_connections: int = 8) -> None:
        self.database = Database(dsn, timeout=timeout, max_connections=max_connections)

    def ensure_schema(self) -> None:
        """Make the table where it is missing; harmless to repeat, also from two processes at once."""
        schema = files("run_index").joinpath("schema.sql").read_bytes()
        with self.database.connection() as connection, connection.transaction():
            connection.execute("select pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
            connection.execute(schema)

    def accept(
        self,
        run_id: str,
        run_input: RunInput,
        *,
        agent: str = "",
        rerun_of: str | None = None,
        rerun_step: int | None = None,
    ) -> Acceptance:
        """Record a start durably. The same start under the same id is `existing`, another one is a `conflict`."""
        text = json.dumps(run_input, sort_keys=True)
        # A start that is tried again is the same, whichever request brings it: the trace is that of the first.
        start = json.dumps(run_input | {"trace": {}}, sort_keys=True) if "trace" in run_input else text
        start = start if rerun_of is None else f"{start} {rerun_of} {rerun_step}"
        digest = sha256(start.encode()).hexdigest()
        with self.database.connection() as connection:
            inserted = connection.execute(
                "insert into holdfast.runs (run_id, input, input_digest, agent, rerun_of, rerun_step)"
                " values (%s, %s, %s, %s, %s, %s) on conflict (run_id) do nothing returning run_id",
                (run_id, text, digest, agent, rerun_of, rerun_step),
            ).fetchone()
            with connection.cursor(row_factory=class_row(_Row)) as cursor:
                row = cursor.execute(
                    f"select {_COLUMNS}, input_digest from holdfast.runs where run_id = %s",  # noqa: S608
                    (run_id,),
                ).fetchone()
        if row is None:
            raise IndexUnavailableError(f"run {run_id} was removed while it was being accepted")
        if inserted:
            return Acceptance("created", row.run())
        return Acceptance("existing" if row.input_digest == digest else "conflict", row.run())

    def mark_scheduled(self, run_id: str) -> None:
        """Note that the run has a workflow."""
        with self.database.connection() as connection:
            connection.execute(
                "update holdfast.runs set scheduled_at = clock_timestamp(), status = 'scheduled'"
                " where run_id = %s and scheduled_at is null and closed_at is null",
                (run_id,),
            )

    def close_run(self, run_id: str, status: str, error: str | None = None) -> bool:
        """Note that the run has ended with `status`; False where that was known."""
        with self.database.connection() as connection:
            closed = connection.execute(
                "update holdfast.runs set closed_at = clock_timestamp(), status = %s, error = %s"
                " where run_id = %s and closed_at is null",
                # An error's text comes from anywhere, and PostgreSQL has no NUL character.
                (status, error and error.replace("\x00", "\ufffd"), run_id),
            )
            return closed.rowcount == 1

    def open_runs(self, limit: int = 100_000) -> list[IndexedRun]:
        """The runs that have not ended, oldest first. The cost follows their number alone."""
        return self._select("closed_at is null order by accepted_at, run_id limit %s", (limit,))

    def get(self, run_id: str) -> IndexedRun | None:
        """One run, or None where none was accepted under that id."""
        return next(iter(self._select("run_id = %s", (run_id,))), None)

    def page(
        self,
        *,
        limit: int,
        before: tuple[datetime, str] | None = None,
        status: str | None = None,
        agent: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        id_contains: str | None = None,
    ) -> list[IndexedRun]:
        """Runs newest first, without inputs; `before` is the last run of the page before: `(accepted_at, run_id)`.

        Of the runs that were accepted from `since` on and before `until`. The status `open` is of all that have not
        ended.
        """
        where: list[LiteralString] = ["closed_at is null" if status == "open" else "true"]
        values: list[object] = []
        filters: list[tuple[LiteralString, object]] = [
            ("status = %s", None if status == "open" else status),
            ("agent = %s", agent),
            ("accepted_at >= %s", since),
            ("accepted_at < %s", until),
            ("strpos(run_id, %s) > 0", id_contains),
        ]
        for condition, value in filters:
            if value is not None:
                where.append(condition)
                values.append(value)
        if before is not None:
            where.append("(accepted_at, run_id) < (%s, %s)")
            values.extend(before)
        wanted: LiteralString = " and ".join(where)
        order: LiteralString = " order by accepted_at desc, run_id desc limit %s"
        # An input may have a megabyte, and nobody reads a hundred of them.
        return self._select(wanted + order, (*values, limit), _COLUMNS.replace("input", "'{}'::jsonb as input"))

    def count_open(self) -> int:
        """How many runs have not ended."""
        with self.database.connection() as connection:
            row = connection.execute("select count(*) from holdfast.runs where closed_at is null").fetchone()
        assert row is not None
        return int(row[0])

    def is_writable(self) -> bool:
        """Whether the database answers and is the primary."""
        try:
            with self.database.connection() as connection:
                row = connection.execute("select pg_is_in_recovery()").fetchone()
        except IndexUnavailableError:
            return False
        return row is not None and row[0] is False

    def standby_timeline(self) -> int | None:
        """The timeline that a standby's database has come to; None where it doesn't answer, or is the primary."""
        try:
            with self.database.connection() as connection:
                row = connection.execute("select min_recovery_end_timeline from pg_control_recovery()").fetchone()
        except IndexUnavailableError:
            return None
        return int(row[0]) or None if row else None

    def close(self) -> None:
        """Close every connection."""
        self.database.close()

    def _select(
        self, condition: LiteralString, values: tuple[object, ...], columns: LiteralString = _COLUMNS
    ) -> list[IndexedRun]:
        query: LiteralString = f"select {columns} from holdfast.runs where {condition}"  # noqa: S608
        with self.database.connection() as connection, connection.cursor(row_factory=class_row(IndexedRun)) as cursor:
            return cursor.execute(query, values).fetchall()


@dataclass(frozen=True)
class _Row(IndexedRun):
    input_digest: str = ""

    def run(self) -> IndexedRun:
        return IndexedRun(**{one.name: getattr(self, one.name) for one in fields(IndexedRun)})
