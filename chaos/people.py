"""What clients, supervisors, operators and intruders do in experiments, as Chaos Toolkit calls it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from holdfast.client import HoldfastClient, NotAnsweredError, RefusedError

from chaos.actions import Told
from chaos.history import Fault, Intrusion
from chaos.impostors import impostors, purge
from chaos.intruders import intrusions
from chaos.session import current
from chaos.toolroom import denied_calls
from infra.doors import Doors, Unanswered
from infra.manifest import Manifest

__all__ = [
    "call_denied_tools",
    "certificate_is_named",
    "configure_wrongly",
    "decide_held_runs",
    "hold_runs",
    "knock_at_every_door",
    "purge_a_live_run",
    "send_impostor_sidecars",
    "start_a_burst",
    "start_everywhere",
    "tampered_run_is_refused",
]

COMMAND_SECONDS = 60.0


def hold_runs(runs: int = 12, seconds: float = 120.0, within: float = 30.0, decided: bool = True) -> bool:
    """Start runs that wait for a supervisor, each for `seconds`; all of them wait when this ends.

    Where nobody is to decide, they wait until their timers end it.
    """
    session = current()
    if not decided:
        session.promised["timers"] = runs
    return session.hold_runs(runs, seconds, within) == runs


def decide_held_runs(pace: float = 0.5) -> Told:
    """Begin to decide what the held runs wait for, one every `pace` seconds; every third is denied."""
    session = current()
    assert session.supervisors is not None, "no run is held: hold some first"
    calls = session.supervisors.waiting(session.held)
    session.promised["signals"] = len(calls)
    session.supervisors.decide(calls, pace)
    return {"to-decide": len(calls)}


def start_a_burst(times: int = 10) -> Told:
    """Start so many times the runs that the load began with, at once."""
    session = current()
    assert session.workload is not None, "there is no load yet: begin it first"
    at, before, runs = time.time(), len(session.workload.accepted_ids()), session.runs * times
    session.workload.more(runs)
    accepted = len(session.workload.accepted_ids()) - before
    seconds = time.time() - at
    # At full capacity an API may say no, as long as it says so.
    evidence = {"started": runs, "accepted": accepted, "seconds": round(seconds, 2)}
    session.note(Fault(name="burst", target="region API", at=at, evidence=dict(evidence), proven=accepted >= runs // 2))
    return dict(evidence)


def start_everywhere(runs: int = 10, copies: int = 3) -> Told:
    """Start each of some runs several times at once, in both regions; one run is made of each."""
    session = current()
    workload, manifest = session.workload, session.manifest
    assert workload is not None, "there is no load yet: begin it first"
    token, at = manifest.api_token_file.read_text(encoding="utf-8").strip(), time.time()
    # Each asks one region, and takes that for the active one.
    clients = [_Insistent(name, region.api, manifest, token) for name, region in manifest.regions.items()]
    try:
        ids = {workload.everywhere(clients, copies) for _ in range(runs)}
    finally:
        for client in clients:
            client.close()
    told = Counter(one.outcome for one in workload.operations if one.run_id in ids)
    accepted = ids & workload.accepted_ids()
    evidence = {"runs": len(ids), "accepted": len(accepted), **{f"starts-{name}": n for name, n in told.items()}}
    proven = told["ok"] > len(accepted) > 0 and told["unknown"] > 0
    session.note(Fault(name="duplicate-starts", target="both regions", at=at, evidence=dict(evidence), proven=proven))
    return dict(evidence)


def knock_at_every_door() -> Told:
    """Try every door without the right to; each attempt is recorded as an intrusion."""
    session, at = current(), time.time()
    tried = intrusions(session.manifest, session.wait_active(5.0))
    return _intruded("intruders", tried, at)


def send_impostor_sidecars() -> Told:
    """Start sidecars that have no identity, that of another app, or another root."""
    session, at = current(), time.time()
    return _intruded("impostors", impostors(session.manifest, session.wait_active(5.0)), at)


def call_denied_tools() -> Told:
    """Call tools of another app that its access policy denies to the caller."""
    session, at = current(), time.time()
    return _intruded("denied-tools", denied_calls(session.manifest, session.wait_active(5.0)), at)


def purge_a_live_run() -> Told:
    """Remove a run that has not ended, through a sidecar of the active region."""
    session, at = current(), time.time()
    run_id = session.held[0]
    return _intruded("purge-live-run", purge(session.manifest, session.wait_active(5.0), run_id), at)


def configure_wrongly(setting: str = "lease.ttl=5") -> Told:
    """Run `holdfast up` on the deployment with a setting that is wrong."""
    session, at = current(), time.time()
    directory = session.manifest.directory
    command = [str(Path(sys.executable).with_name("holdfast")), "up", "--stack", directory.name]
    command += ["--state", str(directory.parent), "-c", setting]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    said = (answer.stderr or answer.stdout).strip()
    named = answer.returncode == 2 and setting.partition("=")[0] in said
    evidence = {"setting": setting, "exit-code": answer.returncode, "said": said[-500:]}
    session.note(Fault(name="wrong-configuration", target="holdfast up", at=at, evidence=dict(evidence), proven=True))
    session.claim("the wrong setting is refused by its name", lambda: "" if named else said[-500:])
    return dict(evidence)


def certificate_is_named(where: str = "struck") -> bool:
    """Who asks the region's API is told that its certificate has expired, and by whom."""
    session = current()
    region = session.place(where)

    def named() -> str:
        with Doors(session.manifest) as doors:
            try:
                doors.api_role(region)
            except Unanswered as error:
                return "" if "certificate has expired" in str(error) else f"it was told: {error}"
        return "it was answered"

    return session.claim(f"the expired certificate of region {region} is named", named)


def tampered_run_is_refused(seconds: float = 60.0) -> bool:
    """The run whose history was changed is not gone on with, and its region says why."""
    session = current()
    run_id = next(str(fault.evidence["tampered"]) for fault in session.injected if "tampered" in fault.evidence)

    def refused() -> str:
        def ended() -> str | None:
            try:
                run = session.client.run(run_id)
            except RefusedError as error:
                return f"refused: {error}"
            except NotAnsweredError as error:
                return f"not answered: {error}"
            return f"{run.status}: {run.error}" if run and run.status in ("failed", "completed", "terminated") else None

        told = session.wait(f"run {run_id} to end", ended, seconds)
        refused = told.startswith("refused") and "signature verification failed" in told
        return "" if refused or (told.startswith("failed") and "TAMPERED" in told.upper()) else told

    return session.claim("the tampered run is refused", refused)


class _Insistent(HoldfastClient):
    """Asks one region, whether it is active or not."""

    def __init__(self, region: str, url: str, manifest: Manifest, token: str) -> None:
        super().__init__({region: url}, ca=manifest.ca, token=token)
        self._region = region

    def active_region(self) -> str | None:
        return self._region


def _intruded(name: str, tried: list[Intrusion], at: float) -> Told:
    session = current()
    session.intrusions += tried
    session.promised |= {"intrusions": len(session.intrusions)}
    refused = sum(one.refused for one in tried)
    open_doors = [f"{one.name} at {one.door}: {one.observed}" for one in tried if not one.refused]
    evidence: Told = {"tried": len(tried), "refused": refused}
    session.note(Fault(name=name, target="every door", at=at, evidence=evidence, proven=bool(tried)))
    session.claim("whoever has no right to be heard is refused", lambda: "; ".join(open_doors))
    return evidence
