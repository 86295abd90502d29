"""Which region was active in which epoch: recorded at each activation, and replicated like the runs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from run_index.database import Database

KEPT = 500


@dataclass(frozen=True)
class Epoch:
    """A region's time as the active one, and what its sweep woke once it had become so."""

    epoch: int
    region: str
    activated_at: datetime
    swept_at: datetime | None = None
    swept_runs: int | None = None
    sweep_seconds: float | None = None


class Epochs:
    """Writes once committed; each may be repeated. Raises IndexUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, epoch: int, region: str, activated_at: datetime) -> None:
        """Note an activation; of one that is known, the first time stays."""
        with self._database.connection() as connection:
            connection.execute(
                "insert into holdfast.epochs (epoch, region, activated_at) values (%s, %s, %s)"
                " on conflict (epoch) do nothing",
                (epoch, region, activated_at),
            )

    def record_sweep(self, epoch: int, runs: int, seconds: float) -> None:
        """Note the sweep that followed an activation."""
        with self._database.connection() as connection:
            connection.execute(
                "update holdfast.epochs set swept_at = clock_timestamp(), swept_runs = %s, sweep_seconds = %s"
                " where epoch = %s",
                (runs, seconds, epoch),
            )

    def all(self) -> list[Epoch]:
        """The last epochs, oldest first."""
        with self._database.connection() as connection, connection.cursor(row_factory=class_row(Epoch)) as cursor:
            cursor.execute(
                "select epoch, region, activated_at, swept_at, swept_runs, sweep_seconds"
                " from holdfast.epochs order by epoch desc limit %s",
                (KEPT,),
            )
            return cursor.fetchall()[::-1]


def epoch_at(epochs: Sequence[Epoch], at: datetime) -> Epoch | None:
    """The epoch in force at a time, or None where that is before the first one that was recorded."""
    number = bisect_right(epochs, at, key=lambda epoch: epoch.activated_at)
    return epochs[number - 1] if number else None
