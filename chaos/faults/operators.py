"""Mistakes of operators: a promotion by hand, a certificate that nobody renewed, a process that runs out of things."""

from __future__ import annotations

import time
from dataclasses import dataclass

from chaos.faults.target import Ability, Moment, NotInjectedError, Part, Place, Resource, Struck, Target, over

PROMOTED_SECONDS = 10.0
POLL_SECONDS = 0.05
_IN_RECOVERY = "select pg_is_in_recovery()"


@dataclass(frozen=True)
class PromoteByHand:
    """The standby's database is promoted around Patroni, while the primary lives: nobody is fenced."""

    name: str = "promote-by-hand"
    does: str = "An operator promotes the standby's database, past Patroni and while the primary lives"
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"sql"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        if not target.sql(place, _IN_RECOVERY)[0][0]:
            raise NotInjectedError(f"the database of region {place} is primary already")
        at = time.time()
        promoted = bool(target.sql(place, f"select pg_promote(true, {PROMOTED_SECONDS:.0f})")[0][0])
        return Struck(at, {"promoted": promoted}, promoted)

    def lift(self, target: Target, place: Place) -> None:
        """Nothing is in force: Patroni makes it a standby again."""


@dataclass(frozen=True)
class FailOverByHand:
    """Patroni is told to fail over although the primary is well."""

    name: str = "fail-over-by-hand"
    does: str = "An operator makes Patroni fail over although the primary is well"
    in_doubt: bool = True
    needs: frozenset[Ability] = frozenset({"switchover"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        moment()
        return target.fail_over_by_hand(place)

    def lift(self, target: Target, place: Place) -> None:
        """Nothing is in force: the role stays where it is."""


@dataclass(frozen=True)
class ExpireCertificate:
    """Nobody renewed a certificate in time."""

    name: str = "expire-certificate"
    does: str = "The certificate of the region's API has expired"
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"certificates"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        return target.expire_certificate(place)

    def lift(self, target: Target, place: Place) -> None:
        target.renew_certificate(place)


@dataclass(frozen=True)
class Starve:
    """A process can open no further file and no connection, or gets no further memory."""

    name: str
    does: str
    part: Part
    of: Resource = "files"
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"limits"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        return target.starve(place, self.part, self.of)

    def lift(self, target: Target, place: Place) -> None:
        target.sate(place, self.part)


@dataclass(frozen=True)
class Throttle:
    """A process gets next to no processor time, as beside a neighbour that takes it all."""

    name: str
    does: str
    part: Part
    share: float = 0.05
    seconds: float = 15.0
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"limits"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        return over(target.throttle(place, self.part, self.share, self.seconds))

    def lift(self, target: Target, place: Place) -> None:
        target.resume(place, self.part)
