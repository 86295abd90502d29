"""Who did what, when, and from where: one row for each deed, there before it is done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg.rows import class_row

from run_index.database import Database


@dataclass(frozen=True)
class Deed:
    """What somebody is about to do. `source` is the address that the request came from."""

    who: str
    role: str
    source: str
    region: str
    action: str
    subject: str
    detail: str = ""

    @property
    def is_about_a_run(self) -> bool:
        """Whether its subject is a run's id."""
        return self.subject != "" and not self.subject.startswith("region ")


@dataclass(frozen=True)
class AuditEntry(Deed):
    """A recorded deed. Without an `outcome` nobody knows what became of it."""

    id: int = 0
    at: datetime = datetime.min
    outcome: str | None = None


_COLUMNS: LiteralString = "id, at, who, role, source, region, action, subject, detail, outcome"


class AuditLog:
    """Entries are only added, and given their outcome. Raises IndexUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, deed: Deed) -> int:
        """The number of the deed's entry, which is committed. What can't be recorded must not be done."""
        values = (deed.who, deed.role, deed.source, deed.region, deed.action, deed.subject, deed.detail)
        with self._database.connection() as connection:
            row = connection.execute(
                "insert into holdfast.audit (who, role, source, region, action, subject, detail)"
                " values (%s, %s, %s, %s, %s, %s, %s) returning id",
                [value.replace("\x00", "\ufffd") for value in values],
            ).fetchone()
        assert row is not None
        return int(row[0])

    def end(self, entry: int, outcome: str) -> None:
        """Note what became of it; the first outcome stays."""
        with self._database.connection() as connection:
            connection.execute(
                "update holdfast.audit set outcome = %s where id = %s and outcome is null",
                (outcome.replace("\x00", "\ufffd"), entry),
            )

    def page(self, *, limit: int, before: int | None = None, subject: str | None = None) -> list[AuditEntry]:
        """Entries, newest first; `before` is the number of the last one of the page before."""
        with self._database.connection() as connection, connection.cursor(row_factory=class_row(AuditEntry)) as cursor:
            return cursor.execute(
                f"select {_COLUMNS} from holdfast.audit"  # noqa: S608
                " where (%(before)s::bigint is null or id < %(before)s)"
                " and (%(subject)s::text is null or subject = %(subject)s) order by id desc limit %(limit)s",
                {"before": before, "subject": subject, "limit": limit},
            ).fetchall()
