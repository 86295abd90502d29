"""A run's history leaves its deployment, is checked without it, and the run is run again; told in order, on one."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic_ai_dapr import Export
from refund_desk.tickets import bundled_tickets, read_tickets

from chaos.record import Ledger
from infra.manifest import Manifest
from tests.support.cli import Cli

pytestmark = pytest.mark.bench

RUN = "T-1002"
MODEL_SECONDS = 1.0


@pytest.fixture(scope="module")
def files(place: Path) -> Path:
    """Where exports and what they are checked with are kept, apart from the deployment."""
    made = place / "files"
    made.mkdir()
    return made


@pytest.fixture(scope="module", autouse=True)
def deployment(cli: Cli) -> None:
    cli("up", "-c", f"model_latency_seconds={MODEL_SECONDS}")
    cli.settled()


@pytest.fixture
def ledger(cli: Cli) -> Iterator[Ledger]:
    reader = Ledger(Manifest.load(cli.directory))
    yield reader
    reader.close()


def outcomes(ledger: Ledger, run_id: str = RUN) -> dict[str, list[str]]:
    """What became of each attempt at each of a run's effects, by idempotency key."""
    found: dict[str, list[str]] = {}
    for effect in ledger.effects() or []:
        if effect.run_id == run_id:
            found.setdefault(effect.key, []).append(effect.outcome)
    return found


def step_of(told: dict[str, Any], name: str) -> dict[str, Any]:
    return next(step for step in told["steps"] if step["name"] == name)


def tampered(file: Path) -> Path:
    """The export with another amount in the quote as the engine recorded it; its readable form stays."""
    export, said, lie = Export.load(file), b'"amount": "24.00"', b'"amount": "94.00"'
    position = next(n for n, one in enumerate(export.recorded) if b'"eligible": true' in one and said in one)
    recorded = [*export.recorded]
    recorded[position] = recorded[position].replace(said, lie)
    made = file.with_name("tampered.json")
    export.model_copy(update={"recorded": recorded}).save(made)
    return made


def test_a_refund_is_told_step_by_step(cli: Cli, files: Path, ledger: Ledger) -> None:
    (files / "ticket.jsonl").write_text(
        next(one for one in read_tickets(bundled_tickets()).tickets if one.ticket_id == RUN).model_dump_json()
    )
    cli("run", str(files / "ticket.jsonl"))
    told = cli("runs", RUN)
    assert told["run"]["output"]["output"]["outcome"] == "refunded"
    assert [(one["ordinal"], one["attempt"], one["error"]) for one in told["steps"]] == [
        (ordinal, 1, None) for ordinal in range(1, len(told["steps"]) + 1)
    ]
    assert all(one["seconds"] >= MODEL_SECONDS for one in told["steps"] if one["kind"] == "model")
    refund = step_of(told, "issue_refund")
    assert (refund["input"]["args"]["amount"], refund["output"]["result"][:3]) == ("24.00", "rf-")
    assert outcomes(ledger)[f"{RUN}:{refund['ordinal']}"] == ["applied"]


def test_its_export_is_proven_and_replays_and_a_tampered_one_does_not(cli: Cli, files: Path) -> None:
    file = files / "run.json"
    exported = cli("export", RUN, str(file))
    assert exported["signatures"] > 10
    proven = cli("verify", str(file))
    assert (proven["proven"], proven["ended"]) == (exported["events"], True)
    assert proven["signers"] == [Manifest.load(cli.directory).signer]
    assert cli("replay", str(file))["difference"] is None
    (files / "root.crt").write_bytes(Manifest.load(cli.directory).ca.read_bytes())

    other = tampered(file)
    assert "was changed after" in cli("verify", str(other), exits=1)["reason"]
    assert "94.00" in cli("replay", str(other), exits=1)["difference"]


def test_a_rerun_from_a_step_applies_no_effect_twice(cli: Cli, ledger: Ledger) -> None:
    steps = cli("runs", RUN)["steps"]
    before, refund = outcomes(ledger), step_of({"steps": steps}, "issue_refund")["ordinal"]
    assert set(map(tuple, before.values())) == {("applied",)}

    assert cli("rerun", RUN, "--from", str(refund))["run_id"] == f"{RUN}~2"
    again = cli("runs", f"{RUN}~2")
    assert (again["run"]["rerun_of"], again["run"]["from_step"]) == (RUN, refund)
    assert again["run"]["output"]["output"] == cli("runs", RUN)["run"]["output"]["output"]
    assert outcomes(ledger) == {
        key: ["applied", "duplicate"] if int(key.rpartition(":")[2]) >= refund else ["applied"] for key in before
    }
    assert "its last segment has 1 to" in cli("rerun", RUN, "--from", "99", exits=2)["error"]


def test_a_rerun_goes_on_in_the_other_region(cli: Cli, files: Path, ledger: Ledger) -> None:
    new_id = cli("rerun", RUN, "--no-wait")["run_id"]
    assert new_id == f"{RUN}~3"
    assert cli("rerun", new_id, exits=1)["error"].startswith(
        f"{new_id} was not run again: 409: run {new_id} is running"
    )
    moved = cli("switchover")
    cli("rerun", RUN, "--fresh")
    assert cli("runs", new_id)["run"]["status"] == "completed"
    assert all(attempts.count("applied") == 1 for attempts in outcomes(ledger).values())
    assert [*map(len, outcomes(ledger, f"{RUN}~4").values())] == [1] * len(outcomes(ledger))
    assert {one["run_id"] for one in cli("runs", "--id", f"{RUN}~")["runs"]} == {f"{RUN}~{n}" for n in (2, 3, 4)}

    file = files / "moved.json"
    cli("export", new_id, str(file))
    assert cli("verify", str(file))["ended"]
    assert cli("replay", str(file))["difference"] is None
    refused = standby(cli, moved["from"], f"/v1/runs/{RUN}/export")
    assert (refused.status_code, refused.json()["active_url"]) == (503, Manifest.load(cli.directory).regions["b"].api)


def standby(cli: Cli, region: str, path: str) -> httpx.Response:
    """What the region that is no longer active answers."""
    manifest = Manifest.load(cli.directory)
    headers = {"Authorization": f"Bearer {manifest.api_token_file.read_text().strip()}"}
    context = ssl.create_default_context(cafile=str(manifest.ca))
    with httpx.Client(verify=context, headers=headers, trust_env=False) as client:
        return client.get(f"{manifest.regions[region].api}{path}")


def test_what_left_the_deployment_is_checked_when_it_is_gone(cli: Cli, files: Path) -> None:
    signer = Manifest.load(cli.directory).signer
    cli("down")
    assert "name a root that you trust" in cli("verify", str(files / "run.json"), exits=2)["error"]
    for name in ("run.json", "moved.json"):
        trusted = ["--trust-anchors", str(files / "root.crt"), "--signer", signer]
        assert cli("verify", str(files / name), *trusted)["signers"] == [signer]
        assert cli("replay", str(files / name))["difference"] is None
    assert cli("export", RUN, str(files / "gone.json"), exits=2)["error"].startswith("nothing is deployed in")
