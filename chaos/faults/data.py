"""Faults of what is stored and decided: the database's stream, the scheduler's reminders, the lease, the role."""

from __future__ import annotations

import time
from dataclasses import dataclass

from chaos.faults.target import Ability, Moment, NotInjectedError, NotLiftedError, Place, Struck, Target, over

SECONDS = 10.0
STORM_SECONDS = 5.0
POLL_SECONDS = 0.1

_REPLAYED = "select pg_last_wal_replay_lsn()::text, pg_is_wal_replay_paused()"
_WRITTEN = "select pg_current_wal_insert_lsn()::text"
_WRITE = "set synchronous_commit = local; select pg_logical_emit_message(true, 'holdfast-chaos', repeat('x', 4096))"
_APP_SESSIONS = "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'holdfast_app'"


@dataclass(frozen=True)
class PauseReplay:
    """The standby receives what the primary writes, and doesn't apply it."""

    name: str = "pause-replay"
    does: str = "The standby receives changes and applies none"
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"sql"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        at = time.time()
        target.sql(place, "select pg_wal_replay_pause()")
        before = str(target.sql(place, _REPLAYED)[0][0])
        received = "select pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()"
        deadline = time.monotonic() + SECONDS
        while not (ahead := bool(target.sql(place, received)[0][0])) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        after, paused = target.sql(place, _REPLAYED)[0]
        evidence = {"replayed-before": before, "replayed-after": str(after), "received-more": ahead}
        return Struck(at, dict(evidence), bool(paused) and ahead and before == str(after))

    def lift(self, target: Target, place: Place) -> None:
        # A standby that was promoted meanwhile has nothing to resume.
        if not target.sql(place, "select pg_is_in_recovery()")[0][0]:
            return
        target.sql(place, "select pg_wal_replay_resume()")
        if target.sql(place, _REPLAYED)[0][1]:
            raise NotLiftedError(f"the database of {place} still applies nothing")


@dataclass(frozen=True)
class Diverge:
    """Writes that no standby gets, on a primary that is cut off: its history and the next one's part ways."""

    name: str = "diverge"
    does: str = "A primary that is cut off writes what no standby has"
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"sql"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        at, before = time.time(), str(target.sql(place, _WRITTEN)[0][0])
        target.sql(place, _WRITE)
        after = str(target.sql(place, _WRITTEN)[0][0])
        return over(Struck(at, {"written-before": before, "written-after": after}, before != after))

    def lift(self, target: Target, place: Place) -> None:
        """Nothing is in force: whoever rejoins is rewound."""


@dataclass(frozen=True)
class ResetSessions:
    """Every session of the app at its database is ended, over and over."""

    name: str = "reset-sessions"
    does: str = f"Every database session of the app is ended, again and again for {STORM_SECONDS:g} s"
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"sql"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        at, deadline, ended = time.time(), time.monotonic() + STORM_SECONDS, 0
        while time.monotonic() < deadline:
            ended += int(str(target.sql(place, _APP_SESSIONS)[0][0]))
            time.sleep(POLL_SECONDS)
        return over(Struck(at, {"sessions-ended": ended}, ended > 0))

    def lift(self, target: Target, place: Place) -> None:
        """Nothing is in force: sessions are opened again by who needs them."""


@dataclass(frozen=True)
class WipeReminders:
    """The scheduler forgets every wake-up of every run."""

    name: str = "wipe-reminders"
    does: str = "The scheduler loses all that it has stored, and starts empty"
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"reminders"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        return over(target.wipe_reminders(place))

    def lift(self, target: Target, place: Place) -> None:
        target.start(place, "scheduler")


@dataclass(frozen=True)
class LoseDatabase:
    """The disk of a database is lost."""

    name: str = "lose-database"
    does: str = "Every file of the region's database is gone, and its node is down"
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"stop"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        return target.wipe_database(place)

    def lift(self, target: Target, place: Place) -> None:
        target.start(place, "patroni")


@dataclass(frozen=True)
class MoveLeaseLeader:
    """The lease store gets another leader."""

    name: str = "move-lease-leader"
    does: str = "Another member leads the lease store"
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"lease"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        return over(target.move_lease_leader())

    def lift(self, target: Target, place: Place) -> None:
        """Nothing is in force."""


@dataclass(frozen=True)
class Switchover:
    """The active role moves to `place`."""

    name: str = "switchover"
    does: str = "The active role moves, as an operator would move it"
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"switchover"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        if place == "w":
            raise NotInjectedError("the witness can't be active")
        return over(target.switch_over(place))

    def lift(self, target: Target, place: Place) -> None:
        """Nothing is in force: the role stays where it is."""
