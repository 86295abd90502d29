"""One experiment against one deployment: its load, its faults and its record. Chaos Toolkit's steps act on it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from holdfast.client import HoldfastClient
from refund_desk.tickets import bundled_tickets, read_tickets

from chaos.faults.local import LocalFaults
from chaos.history import Bounds, Fault, History, in_doubt
from chaos.record import Ledger, latest_attempts, record_attempts, record_events, record_workflows
from chaos.workload import Workload
from infra.doors import Doors, Unanswered
from infra.manifest import Manifest
from infra.state import deployment_directory
from infra.status import observe

Found = TypeVar("Found")
ENDED = frozenset({"completed", "failed", "terminated"})
POLL_SECONDS = 0.1
DOUBT_SECONDS = 0.02
STRIKES_IN_DOUBT = frozenset({"region-loss", "worker-crash"})
MARGIN = 4
"""Runs that may end between the last look and the fault."""


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
        self.faults = LocalFaults(manifest)
        self.injected: list[Fault] = []
        self.began = time.time()
        self.workload: Workload | None = None

    @classmethod
    def of_environment(cls) -> Session:
        """The deployment that HOLDFAST_STATE and HOLDFAST_STACK name, by default `local` in this checkout."""
        directory = deployment_directory(os.environ.get("HOLDFAST_STACK", "local"), os.environ.get("HOLDFAST_STATE"))
        return cls(Manifest.load(directory), runs=int(os.environ.get("HOLDFAST_RUNS", "24")))

    def begin_load(self) -> int:
        """Start the load; returns when the first burst is in flight, with how many runs are."""
        tickets = read_tickets(bundled_tickets()).tickets
        prefix = time.strftime("d%H%M%S-", time.gmtime(self.began))
        self.workload = Workload(self._load_client, tickets, prefix, self.runs, self._pace)
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
        """Whether so many runs are in flight; what has ended meanwhile is made up for, up to the deadline."""
        deadline = time.monotonic() + seconds
        while (missing := at_least - self.count_in_flight()) > 0:
            if self.workload is None or time.monotonic() > deadline:
                return False
            self.workload.more(missing + MARGIN)
        return True

    def lose_active(self) -> Fault:
        """Lose the active region, in the middle of its work: an effect is applied and not answered."""
        return self._inject(lambda: self.faults.lose_region(self._active(), self.wait_in_doubt))

    def crash_worker(self) -> Fault:
        """Crash a worker of the active region, in the middle of an operation: an effect, where one is seen."""
        return self._inject(lambda: self.faults.crash_worker(self._active(), self.wait_in_doubt))

    def switch_over(self) -> Fault:
        """Move the active role to the other region, as planned."""
        return self._inject(lambda: self.faults.switch_over(self.other(self._active())))

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

    def return_lost(self) -> None:
        """Bring back every region that this session lost. May be repeated."""
        for fault in self.injected:
            if fault.name == "region-loss":
                self.faults.return_region(fault.target.removeprefix("region "))

    def wait_active(self, seconds: float = 60.0) -> str:
        """The active region, once there is one."""
        return self.wait("a region to be active", self.client.active_region, seconds)

    def wait_healthy(self, seconds: float = 90.0) -> bool:
        """True once one region is active and the other its synchronous standby."""
        self.wait("both regions to be healthy", lambda: self.is_healthy() or None, seconds)
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
            self.wait("a start to be accepted after the fault", lambda: self._accepted_since(faults[-1].at))
        self.end_load()
        open_before, since = self._ids(), time.monotonic()
        while time.monotonic() - since < self._stuck_after:
            still_open = {run.run_id for run in self.client.runs(status="open")} & self._ids()
            if not still_open:
                return True
            if still_open != open_before:
                open_before, since = still_open, time.monotonic()
            time.sleep(POLL_SECONDS)
        return False

    def record(self, experiment: str) -> History:
        """Everything that is known now."""
        operations = self.workload.operations if self.workload else []
        ids = {operation.run_id for operation in operations}
        # Runs first: what a run did before it was looked at is then in everything that is read afterwards.
        workflows = record_workflows(self.client, ids)
        return History(
            experiment=experiment,
            operations=operations,
            effects=self.ledger.effects(),
            attempts=record_attempts(self.manifest, ids),
            workflows=workflows,
            events=record_events(self.manifest, self.began),
            faults=self.injected,
            bounds=Bounds(
                minimum_in_flight=min(20, self.runs),
                minimum_in_doubt=int(any(fault.name in STRIKES_IN_DOUBT for fault in self.injected)),
            ),
        )

    def close(self) -> None:
        """End the load and the connections."""
        self.end_load()
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
            except Unanswered as error:
                seen = None
                del error
            if seen:
                return seen
            time.sleep(POLL_SECONDS)
        raise TimeoutError(f"waited {seconds:g} s for {what}; last seen: {seen!r}. See `holdfast status`")

    def _inject(self, inject: Callable[[], Fault]) -> Fault:
        fault = inject()
        self.injected.append(fault)
        return fault

    def _accepted_since(self, at: float) -> bool:
        operations = self.workload.operations if self.workload else []
        return any(one.outcome == "ok" and one.invoked_at > at for one in operations)

    def _active(self) -> str:
        return self.wait_active(5.0)

    def _ids(self) -> set[str]:
        return self.workload.accepted_ids() if self.workload else set()


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
