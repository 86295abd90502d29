"""An agent of the user's own goes on through whatever happens to a region's parts; told in order, on one deployment."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil
import pytest
from holdfast.client import HoldfastClient, RunView
from pydantic import JsonValue
from pydantic_ai_dapr import AgentRunClient

from chaos.history import Attempt
from chaos.record import record_attempts
from infra.local.layout import SITE_NAMES
from infra.local.supervisor import status
from infra.manifest import Manifest
from tests.support import errands
from tests.support.cli import Cli
from tests.support.waiting import until

pytestmark = pytest.mark.bench

KEPT, LATENCY = 2, 0.2


@pytest.fixture(scope="module")
def code(place: Path) -> Path:
    """Says which code workers have that start from now on."""
    agents = place / "agents"
    agents.mkdir()
    shutil.copy(errands.__file__, agents)
    return agents / "code"


@pytest.fixture(scope="module", autouse=True)
def deployment(cli: Cli, code: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(code.parent))
        settings = [
            "agent=errands:hosted",
            "environment=PYTHONPATH",
            f"kept_runs={KEPT}",
            f"model_latency_seconds={LATENCY}",
        ]
        cli("up", *(word for setting in settings for word in ("-c", setting)))
    cli.settled()


@pytest.fixture(scope="module")
def manifest(cli: Cli) -> Manifest:
    return Manifest.load(cli.directory)


@pytest.fixture(scope="module")
def client(manifest: Manifest) -> HoldfastClient:
    apis = {name: region.api for name, region in manifest.regions.items()}
    return HoldfastClient(apis, ca=manifest.ca, token=manifest.api_token_file.read_text().strip(), timeout=10)


def start(client: HoldfastClient, runs: Iterable[str], **errand: JsonValue) -> list[str]:
    started = list(runs)
    for run in started:
        until(f"{run} accepted", lambda run=run: client.start(run, errand).outcome == "ok")
    return started


def ended(client: HoldfastClient, runs: list[str]) -> dict[str, RunView]:
    """The runs once all have ended."""
    found: dict[str, RunView] = {}

    def all_ended() -> bool:
        for run in runs:
            view = found.get(run) or client.run(run)
            if view is not None and view.status in ("completed", "failed", "terminated"):
                found[run] = view
        return len(found) == len(runs)

    until("every run ended", all_ended)
    return found


def outputs(client: HoldfastClient, runs: list[str]) -> set[str]:
    return {
        str(view.output["output"]) if isinstance(view.output, dict) else str(view.error)
        for view in ended(client, runs).values()
    }


def waiting(client: HoldfastClient, run: str) -> bool:
    """Whether the run has asked for permission."""
    told = client.history(run)
    return told[-1].type in ("timerCreated", "workflowStarted") and any(one.type == "timerCreated" for one in told)


def decide(cli: Cli, region: str, run: str, *, approved: bool = True) -> None:
    """Decide what the run waits for, by any of the region's sidecars."""
    config = json.loads((cli.directory / SITE_NAMES[region] / "config" / "worker-1.json").read_text())["dapr"]
    token = Path(config["token_file"]).read_text().strip()
    sidecar = AgentRunClient("errands", host="127.0.0.1", port=config["grpc_port"], api_token=token)

    def decided() -> bool:
        sidecar.approve(run, "deliver", approved=approved)
        return True

    try:
        until(f"the decision for {run}", decided)
    finally:
        sidecar.close()


def executions(manifest: Manifest, runs: list[str]) -> dict[tuple[str, int], list[Attempt]]:
    """Every start of an execution, by operation."""
    found: dict[tuple[str, int], list[Attempt]] = {}
    for attempt in record_attempts(manifest, set(runs)):
        if attempt.phase == "started" and not attempt.joined:
            found.setdefault((attempt.run_id, attempt.ordinal), []).append(attempt)
    return found


def most_repeated(manifest: Manifest, runs: list[str]) -> int:
    """How many executions the unluckiest of these runs made in vain. Of a run that takes one step after the other,
    each fault can cost one: what was in hand."""
    in_vain: Counter[str] = Counter()
    for (run, _), attempts in executions(manifest, runs).items():
        in_vain[run] += len(attempts) - 1
    return max(in_vain.values())


def replace(manifest: Manifest, region: str, process: str, end: Callable[[psutil.Process], None]) -> None:
    """End a process, and return when its supervisor has another one at work."""
    socket = manifest.regions[region].supervisor_socket
    before = (status(socket) or {})[process].pid
    end(psutil.Process(before))

    def replaced() -> bool:
        now = (status(socket) or {}).get(process)
        return now is not None and now.running and now.pid != before

    until(f"another {process}", replaced)


def deploy(cli: Cli, manifest: Manifest, region: str, code: Path, version: str) -> None:
    """Replace the region's workers one after the other by ones with that code."""
    code.write_text(version)
    for worker in manifest.regions[region].workers:
        replace(manifest, region, worker, psutil.Process.terminate)
        cli.settled()


def test_two_workers_share_more_runs_than_they_keep_and_execute_each_operation_once(
    client: HoldfastClient, manifest: Manifest
) -> None:
    runs = start(client, (f"many-{number}" for number in range(6 * KEPT)), steps=4)
    assert outputs(client, runs) == {"4 steps, step 3 taken"}
    found = executions(manifest, runs)
    assert {operation: len(attempts) for operation, attempts in found.items()} == {
        (run, ordinal): 1 for run in runs for ordinal in range(1, 10)
    }
    assert {attempt.worker for attempts in found.values() for attempt in attempts} == {"worker-1", "worker-2"}


def test_runs_go_on_though_each_sidecar_is_killed_in_turn(client: HoldfastClient, manifest: Manifest, cli: Cli) -> None:
    runs = start(client, (f"killed-{number}" for number in range(8)), steps=8)
    for sidecar in manifest.regions["a"].sidecars:
        replace(manifest, "a", sidecar, psutil.Process.kill)
    assert outputs(client, runs) == {"8 steps, step 7 taken"}
    assert most_repeated(manifest, runs) <= len(manifest.regions["a"].sidecars)
    cli.settled()


def test_runs_under_way_end_in_their_old_way_while_new_code_is_rolled_out(
    client: HoldfastClient, manifest: Manifest, cli: Cli, code: Path
) -> None:
    old = start(client, ["old"], asks=True)
    until("the question", lambda: waiting(client, "old"))
    walking = start(client, (f"walking-{number}" for number in range(4)), steps=10)
    deploy(cli, manifest, "a", code, "patched")
    new = start(client, ["new"], asks=True)
    until("the question", lambda: waiting(client, "new"))
    for run in old + new:
        decide(cli, "a", run)
    assert outputs(client, old + new) == {"0 steps, delivered"}
    assert outputs(client, walking) == {"10 steps, step 9 taken"}
    looked = {run: any(one.name == "pydantic_ai_dapr.ask" for one in client.history(run)) for run in old + new}
    assert looked == {"old": False, "new": True}


def test_a_run_whose_code_does_something_else_stalls_alone_until_code_that_fits_is_back(
    client: HoldfastClient, manifest: Manifest, cli: Cli, code: Path
) -> None:
    deploy(cli, manifest, "a", code, "first")
    start(client, ["diverging"], asks=True)
    until("the question", lambda: waiting(client, "diverging"))
    deploy(cli, manifest, "a", code, "other")
    decide(cli, "a", "diverging")
    until("the stalled run", lambda: getattr(client.run("diverging"), "status", "") == "stalled")
    assert outputs(client, start(client, ["beside"], steps=2)) == {"2 steps, step 1 taken"}
    code.write_text("first")
    for worker in manifest.regions["a"].workers:
        replace(manifest, "a", worker, psutil.Process.kill)
    assert outputs(client, ["diverging"]) == {"0 steps, delivered"}


def test_what_waits_for_a_person_or_for_a_time_goes_on_where_no_wake_up_is_left(
    client: HoldfastClient, manifest: Manifest, cli: Cli
) -> None:
    """The other region's scheduler starts empty: every timer and reminder of the first is lost."""
    approved = start(client, ["approved"], asks=True)
    expired = start(client, ["expired"], asks=True, patience=20)
    for run in approved + expired:
        until("the question", lambda run=run: waiting(client, run))
    walking = start(client, (f"moving-{number}" for number in range(4)), steps=10)
    cli("switchover")
    decide(cli, "b", "approved")
    assert outputs(client, approved) == {"0 steps, delivered"}
    assert outputs(client, expired) == {"0 steps, nobody decided within 0:00:20"}
    assert outputs(client, walking) == {"10 steps, step 9 taken"}
    assert most_repeated(manifest, approved + expired + walking) <= 1
    assert {attempt.region for attempts in executions(manifest, walking).values() for attempt in attempts} == {"a", "b"}
