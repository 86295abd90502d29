"""Faults on a deployment of local processes, whose links are proxies."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Sequence
from typing import get_args

from pydantic import JsonValue

from chaos.faults.local.certificates import Certificates
from chaos.faults.local.limits import Limits
from chaos.faults.local.links import Links
from chaos.faults.local.outside import Outside
from chaos.faults.local.processes import Processes
from chaos.faults.local.releases import Releases
from chaos.faults.local.store import Store
from chaos.faults.target import (
    Ability,
    Disturbance,
    Moment,
    NotInjectedError,
    Part,
    Path,
    Place,
    Resource,
    Service,
    Struck,
    at_once,
)
from chaos.record import latest_attempts
from infra.doors import Doors, Unanswered
from infra.manifest import Manifest
from infra.switchover import NotFinished, NotPossible, switch_over

__all__ = ["LocalTarget"]

ABILITIES: frozenset[Ability] = frozenset(get_args(Ability))
FAILOVER_SECONDS = 60.0


class LocalTarget:
    """The `local` deployment that a manifest describes."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._processes, self._links, self._store = Processes(manifest), Links(manifest), Store(manifest)
        self._outside, self._limits, self._certificates = Outside(manifest), Limits(manifest), Certificates(manifest)
        self._releases = Releases(manifest, self._processes)

    def can(self, ability: Ability) -> str:
        if ability == "provider" and self.manifest.payments.provider is None:
            return "the deployment has no simulated model provider: `holdfast up -c model=refund_desk:provided`"
        return "" if ability in ABILITIES else f"a local deployment offers no {ability}"

    def running(self, place: Place, part: Part) -> dict[str, int]:
        return self._processes.running(place, part)

    def kill(self, place: Place, part: Part, only: Collection[str] = (), moment: Moment = at_once) -> Struck:
        return self._processes.kill(place, part, only, moment)

    def freeze(self, place: Place, part: Part, only: Collection[str] = (), moment: Moment = at_once) -> Struck:
        return self._processes.freeze(place, part, only, moment)

    def resume(self, place: Place, part: Part) -> None:
        self._processes.resume(place, part)

    def stop(self, place: Place, part: Part, only: Collection[str] = ()) -> Struck:
        return self._processes.stop(place, part, only)

    def start(self, place: Place, part: Part, only: Collection[str] = ()) -> None:
        self._processes.start(place, part, only)

    def in_hand(self) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for attempt in latest_attempts(self.manifest):
            if not attempt.joined:
                operations = found.setdefault(attempt.pid, set())
                name = f"{attempt.run_id}:{attempt.ordinal}"
                operations.add(name) if attempt.phase == "started" else operations.discard(name)
        return {pid: operations for pid, operations in found.items() if operations}

    def disturb(self, paths: Sequence[Path], how: Disturbance) -> Struck:
        return self._links.disturb(paths, how)

    def heal(self) -> None:
        self._links.heal()

    def sql(self, place: Place, statement: str) -> list[tuple[object, ...]]:
        return self._store.sql(place, statement)

    def wipe_reminders(self, place: Place) -> Struck:
        if not self.running(place, "scheduler"):
            raise NotInjectedError(f"no scheduler runs in region {place}: it runs where the region is active")
        struck = self._wiped(place, "scheduler", self._processes.stop(place, "scheduler"))
        self._processes.start(place, "scheduler")
        return struck

    def wipe_database(self, place: Place) -> Struck:
        return self._wiped(place, "postgres", self._processes.stop(place, "patroni"))

    def _wiped(self, place: Place, folder: str, stopped: Struck) -> Struck:
        """What was stopped, without the folder in which it kept its data."""
        data = self.manifest.regions[place].attempts_dir / folder
        had = sum(path.is_file() for path in data.rglob("*"))
        # In one move: whoever starts it again meanwhile must not be disturbed.
        away = data.with_name(f"{folder}.wiped")
        gone = had > 0 and data.rename(away) == away
        shutil.rmtree(away, ignore_errors=True)
        evidence: dict[str, JsonValue] = {"files-removed": had, "gone": gone}
        return Struck(stopped.at, evidence, stopped.proven and gone)

    def move_lease_leader(self) -> Struck:
        return self._store.move_lease_leader()

    def switch_over(self, to: Place) -> Struck:
        at = time.time()
        with Doors(self.manifest) as doors:
            try:
                moved = switch_over(doors, to)
            except (NotFinished, NotPossible) as error:
                raise NotInjectedError(str(error)) from error
        phases: dict[str, JsonValue] = {phase.name: round(phase.seconds, 3) for phase in moved.phases}
        return Struck(at, {"phases": phases}, proven=True)

    def fail_over_by_hand(self, to: Place) -> Struck:
        at = time.time()
        with Doors(self.manifest) as doors:
            try:
                said = doors.fail_over(to, to, FAILOVER_SECONDS)
            except Unanswered as error:
                raise NotInjectedError(str(error)) from error
        return Struck(at, {"patroni-said": said}, proven=True)

    def control(self, service: Service, method: str, path: str, body: JsonValue = None) -> JsonValue:
        return self._outside.control(service, method, path, body)

    def starve(self, place: Place, part: Part, of: Resource) -> Struck:
        return self._limits.starve(self.running(place, part), of)

    def sate(self, place: Place, part: Part) -> None:
        self._limits.sate(self.running(place, part))

    def throttle(self, place: Place, part: Part, share: float, seconds: float) -> Struck:
        return self._limits.throttle(self.running(place, part), share, seconds)

    def expire_certificate(self, place: Place) -> Struck:
        struck = self._certificates.expire(place)
        self.kill(place, "api")
        return self._certificates.seen(place, struck)

    def renew_certificate(self, place: Place) -> None:
        if self._certificates.renew(place):
            self.kill(place, "api")
        self._certificates.demand_valid(place)

    def deploy(self, place: Place, agent: str) -> Struck:
        return self._releases.deploy(place, agent)

    def withdraw(self, place: Place) -> None:
        self._releases.withdraw(place)
