"""One experiment against one deployment: its load, its faults and its record. Chaos Toolkit's steps act on it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from holdfast.client import HoldfastClient
from refund_desk import Ticket
from refund_desk.tickets import bundled_tickets, read_tickets

from chaos import evidence
from chaos.checkout import version
from chaos.faults import FAULTS, FaultKind, NotInjectedError, NotLiftedError, Place, Target, fault_named
from chaos.faults.links import PLACES
from chaos.faults.local import LocalTarget
from chaos.history import TERMINAL, Bounds, Claim, Fault, History, Intrusion, in_doubt
from chaos.record import Ledger, latest_attempts, record_attempts, record_events, record_workflows
from chaos.sampling import Sampler
from chaos.supervisors import Supervisors
from chaos.workload import Workload
from infra.doors import Doors, Unanswered
from infra.local.errors import PartError
from infra.manifest import Manifest
from infra.state import deployment_directory
from infra.status import observe

Found = TypeVar("Found")
POLL_SECONDS = 0.1
DOUBT_SECONDS = 0.02
MARGIN = 4
"""Runs that may end between the last look and the fault."""
OPEN_BEFORE = 50
"""So many runs of before may be open when an experiment begins."""


@dataclass(frozen=True)
class InForce:
    """A fault that may be in force, where, and the number of its record."""

    kind: FaultKind
    place: Place
    number: int


class Session:
    """`stuck_after` bounds how long the end of all runs is awaited without any of them ending, in seconds."""

    def __init__(self, manifest: Manifest, *, runs: int = 24, pace: float = 0.5, stuck_after: float = 30.0) -> None:
        self.manifest = manifest
        self.runs, self._pace, self._stuck_after = runs, pace, stuck_after
        token = manifest.api_token_file.read_text(encoding="utf-8").strip()
        apis = {name: region.api for name, region in manifest.regions.items()}
        self.client = HoldfastClient(apis, ca=manifest.ca, token=token)
        self._load_client = HoldfastClient(apis, ca=manifest.ca, token=token)
        self.ledger = Ledger(manifest)
        self.target: Target = LocalTarget(manifest)
        self.injected: list[Fault] = []
        self.claims: list[Claim] = []
        self.active_before: str | None = None
        self._in_force: list[InForce] = []
        self.began = time.time()
        self.workload: Workload | None = None
        self.sampler = Sampler(manifest, self._ids)
        self.held: list[str] = []
        self.supervisors: Supervisors | None = None
        self.intrusions: list[Intrusion] = []
        self.promised: dict[str, int] = {}

    @classmethod
    def of_environment(cls) -> Session:
        """The deployment that HOLDFAST_STATE and HOLDFAST_STACK name, by default `local` in this checkout."""
        directory = deployment_directory(os.environ.get("HOLDFAST_STACK", "local"), os.environ.get("HOLDFAST_STATE"))
        return cls(Manifest.load(directory), runs=int(os.environ.get("HOLDFAST_RUNS", "24")))

    @property
    def prefix(self) -> str:
        """How the ids of this session's runs begin."""
        return time.strftime("d%H%M%S-", time.gmtime(self.began))

    def begin_load(self, tickets: Sequence[Ticket] = ()) -> int:
        """Start the load, by default of all tickets that come with the desk.

        Returns when the first burst is in flight, with how many runs are.
        """
        tickets = tickets or read_tickets(bundled_tickets()).tickets
        self.workload = Workload(self._load_client, tickets, self.prefix, self.runs, self._pace)
        self.sampler.start()
        self.workload.start()
        self.wait(
            "the first burst to be accepted", lambda: self.workload is not None and self.workload.burst_is_accepted
        )
        return self.count_in_flight()

    def count_in_flight(self) -> int:
        """How many of this session's runs have not ended, by their workflows."""
        accepted = self._ids()
        return sum(run.run_id in accepted for run in self.client.runs(status="open"))

    def hold_in_flight(self, at_least: int, seconds: float = 30.0) -> bool:
        """Whether so many runs are in flight; what has ended meanwhile is made up for, up to the deadline.

        By then a client has seen an operation completed, where it looks at runs: a fault could take that back.
        """
        deadline = time.monotonic() + seconds
        while self.workload is not None and not self.sampler.has_seen_progress and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        while (missing := at_least - self.count_in_flight()) > 0:
            if self.workload is None or time.monotonic() > deadline:
                return False
            self.workload.more(missing + MARGIN)
        return True

    def inject(self, name: str, where: str = "active") -> Fault:
        """Put a fault in force and remember it, for `lift`. Raises NotInjectedError; K12 is unknown then."""
        kind, before = fault_named(name), self.client.active_region()
        at, called = time.time(), where
        try:
            place = self.place(where)
            called = _called(place)
            lacking = [why for ability in sorted(kind.needs) if (why := self.target.can(ability))]
            if lacking:
                raise NotInjectedError("; ".join(lacking))
            # In force from now on, also where what follows is interrupted half-way.
            self._in_force.append(InForce(kind, place, len(self.injected)))
            struck = kind.inject(self.target, place, self.wait_in_doubt)
        except (NotInjectedError, NotLiftedError, PartError, TimeoutError) as error:
            self.injected.append(Fault(name=name, target=called, at=at, evidence={"not-injected": str(error)}))
            raise
        self.active_before = before
        fault = Fault(
            name=name,
            target=called,
            at=struck.at,
            killed=list(struck.killed),
            frozen=list(struck.frozen),
            cut_off=list(struck.cut_off),
            strikes=struck.strikes,
            until=struck.until,
            evidence=struck.evidence,
            proven=struck.proven,
        )
        self.injected.append(fault)
        return fault

    def lift(self, name: str | None = None) -> list[str]:
        """Take back what is in force, the last first; returns what was lifted. Raises NotLiftedError, at the end."""
        lifted: list[str] = []
        failures: list[str] = []
        for one in reversed([one for one in self._in_force if name in (None, one.kind.name)]):
            try:
                one.kind.lift(self.target, one.place)
            except (NotInjectedError, NotLiftedError, PartError, OSError) as error:
                failures.append(f"{one.kind.name} at {_called(one.place)}: {error}")
                continue
            self._in_force.remove(one)
            if one.number < len(self.injected) and self.injected[one.number].until is None:
                self.injected[one.number] = self.injected[one.number].model_copy(update={"until": time.time()})
            lifted.append(one.kind.name)
        if failures:
            raise NotLiftedError("; ".join(failures))
        return lifted

    def place(self, where: str) -> Place:
        """The place that a word of an experiment names at this moment."""
        if where == "struck":
            return self._in_force[-1].place if self._in_force else _place(self.injected[-1].target)
        if where == "spared":
            return _place(self.other(self.place("struck")))
        if where == "standby":
            return _place(self.other(self._active()))
        return _place(self._active() if where == "active" else where)

    def claim(self, claim: str, look: Callable[[], str]) -> bool:
        """Record a claim of the experiment: it holds where `look` returns nothing, else it says why it doesn't."""
        try:
            detail = look()
            held: bool | None = not detail
        except (NotInjectedError, Unanswered) as error:
            held, detail = None, str(error)
        except TimeoutError as error:
            held, detail = False, str(error)
        self.claims.append(Claim(claim=claim, at=time.time(), held=held, detail=detail))
        return held is True

    def wait_in_doubt(self, seconds: float = 15.0) -> set[str]:
        """The workers that have made an effect and don't know it yet; none where none was seen in time."""
        deadline = time.monotonic() + seconds
        # Of what is in the ledger already, nobody here can tell how old it is.
        after = max((effect.seq for effect in self.ledger.effects() or []), default=0)
        while time.monotonic() < deadline:
            effects = self.ledger.effects(after) or []
            found = in_doubt(effects, latest_attempts(self.manifest), time.time())
            if found:
                return {effect.worker for effect in found}
            after = max([after, *(effect.seq for effect in effects)])
            time.sleep(DOUBT_SECONDS)
        return set()

    def wait_active(self, seconds: float = 60.0) -> str:
        """The active region, once there is one."""
        return self.wait("a region to be active", self.client.active_region, seconds)

    def wait_healthy(self, seconds: float = 90.0) -> bool:
        """True once one region is active and the other its synchronous standby."""
        self.wait("both regions to be healthy", lambda: self.is_healthy() or None, seconds)
        return True

    def wait_idle(self, seconds: float) -> bool:
        """True once few enough runs of before are open that what comes is not judged by their queue."""
        self.wait(
            f"no more than {OPEN_BEFORE} runs of before to be open",
            lambda: len(self.client.runs(status="open")) <= OPEN_BEFORE,
            seconds,
        )
        return True

    def is_healthy(self) -> bool:
        """Whether one region is active and the other a synchronous, streaming standby that its agent calls so."""
        with Doors(self.manifest) as doors:
            status = observe(self.manifest, doors)
        if status.active is None:
            return False
        standby = status.region(self.other(status.active))
        return standby.role == "standby" and standby.database.role == "sync_standby" and standby.database.streaming

    def end_load(self) -> None:
        """Start no further run. May be repeated."""
        if self.workload is not None:
            self.workload.stop()

    def wait_ended(self) -> bool:
        """Whether every accepted run has ended; gives up when none has ended for `stuck_after` seconds."""
        faults = self.injected
        if faults:
            since = max(fault.until or fault.at for fault in faults)
            self.wait("a start to be accepted after the fault", lambda: self.accepted_since(since))
        self.end_load()
        open_before, since = self._ids(), time.monotonic()
        while time.monotonic() - since < self._stuck_after:
            still_open = self.open_runs()
            if not still_open:
                return True
            if still_open != open_before:
                open_before, since = still_open, time.monotonic()
            time.sleep(POLL_SECONDS)
        return False

    def open_runs(self) -> set[str]:
        """Which of the runs that the load has started have not ended."""
        return {run.run_id for run in self.client.runs(status="open")} & self._ids()

    def record(self, experiment: str) -> History:
        """Everything that is known now."""
        signals = self.supervisors.finish() if self.supervisors else None
        operations = self.workload.operations if self.workload else []
        ids = {operation.run_id for operation in operations}
        # Nobody looks at a run after it was recorded: what was seen then would be missing in the record.
        self.sampler.stop()
        # Runs first: what a run did before it was looked at is then in everything that is read afterwards.
        workflows = record_workflows(self.client, ids)
        tampered = {str(fault.evidence.get("tampered")) for fault in self.injected}
        terminal = [one.run_id for one in workflows if one.status in TERMINAL and one.run_id not in tampered]
        ended = terminal[: evidence.EXPORTS]
        replays, proofs = evidence.gather(self.client, self.manifest, ended, self._agent())
        return History(
            experiment=experiment,
            version=version(),
            operations=operations,
            effects=self.ledger.effects(),
            attempts=record_attempts(self.manifest, ids),
            workflows=workflows,
            events=record_events(self.manifest, self.began),
            faults=self.injected,
            claims=self.claims,
            signals=signals,
            intrusions=self.intrusions or None,
            observations=self.sampler.observations,
            roles=self.sampler.roles,
            replays=replays,
            proofs=proofs,
            recorded_at=time.time(),
            bounds=Bounds(
                minimum_in_flight=min(20, self.runs),
                minimum_in_doubt=int(bool(self.injected) and strikes_in_doubt(self.injected[0].name)),
                observations=True,
                roles=True,
                replays=len(ended),
                proofs=len(ended),
            ).model_copy(update=self.promised),
        )

    def hold_runs(self, runs: int, seconds: float, within: float) -> int:
        """Start runs that wait for a supervisor; returns how many do so, once all do or the time is over."""
        assert self.workload is not None, "there is no load yet: begin it first"
        held = self.workload.hold(runs, seconds)
        self.held += held
        self.supervisors = self.supervisors or Supervisors(self._load_client)
        people, deadline = self.supervisors, time.monotonic() + within
        while len(waiting := people.waiting(held)) < len(held) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return len(waiting)

    def note(self, fault: Fault) -> Fault:
        """Remember what somebody else than the target did."""
        self.active_before = self.active_before or self.client.active_region()
        self.injected.append(fault)
        return fault

    def close(self) -> None:
        """End the load and the connections."""
        self.end_load()
        self.sampler.stop()
        self.client.close()
        self._load_client.close()
        self.ledger.close()

    def other(self, region: str) -> str:
        """The region that isn't this one."""
        return next(name for name in self.manifest.regions if name != region)

    def wait(self, what: str, look: Callable[[], Found | None], seconds: float = 60.0) -> Found:
        """The first truthy answer. Raises TimeoutError, saying what was awaited and last seen."""
        deadline, seen = time.monotonic() + seconds, None
        while time.monotonic() < deadline:
            try:
                seen = look()
            except (Unanswered, NotInjectedError):
                seen = None
            if seen:
                return seen
            time.sleep(POLL_SECONDS)
        raise TimeoutError(f"waited {seconds:g} s for {what}; last seen: {seen!r}. See `holdfast status`")

    def accepted_since(self, at: float) -> bool:
        """Whether a start that was made since then was acknowledged."""
        operations = self.workload.operations if self.workload else []
        return any(one.outcome == "ok" and one.invoked_at > at for one in operations)

    def tried_since(self, at: float) -> bool:
        """Whether a client has had an answer, or none in its time, to a start that it made since then."""
        operations = self.workload.operations if self.workload else []
        return any(one.invoked_at > at for one in operations)

    def executed_since(self, at: float) -> bool:
        """Whether a worker has begun and ended an operation since then."""
        attempts = [one for one in latest_attempts(self.manifest) if one.at > at]
        begun = {(one.pid, one.run_id, one.ordinal) for one in attempts if one.phase == "started"}
        return any((one.pid, one.run_id, one.ordinal) in begun for one in attempts if one.phase == "ended")

    def _active(self) -> str:
        return self.wait_active(5.0)

    def _agent(self) -> str:
        """The code that replays what ran: the deployment's, or the last that was deployed and fits what had run."""
        deployed = [one.evidence["agent"] for one in self.injected if one.evidence.get("fits")]
        return str([self.manifest.settings.get("agent", ""), *deployed][-1])

    def _ids(self) -> set[str]:
        return self.workload.accepted_ids() if self.workload else set()


def strikes_in_doubt(fault: str) -> bool:
    """Whether a fault of that name strikes while an effect is applied and its caller doesn't know yet."""
    return fault in FAULTS and FAULTS[fault].in_doubt


def _place(name: str) -> Place:
    for place in PLACES:
        if name in (place, _called(place)) or (name, place) == ("witness", "w"):
            return place
    raise NotInjectedError(f"there is no place {name!r}; there are active, standby, struck, spared, a, b and witness")


def _called(place: Place) -> str:
    return "witness" if place == "w" else f"region {place}"


class _Current:
    session: Session | None = None


def current() -> Session:
    """The session of the experiment that runs in this process; made from the environment where nobody set one."""
    if _Current.session is None:
        _Current.session = Session.of_environment()
    return _Current.session


def use(session: Session | None) -> None:
    """Set, or forget, the session that the steps of the next experiment act on."""
    _Current.session = session


def reports_directory(state: Path) -> Path:
    """Where reports are kept."""
    return state / "reports"
