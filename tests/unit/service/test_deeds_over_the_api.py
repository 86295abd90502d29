"""What is done over the API is in the audit log before it is done, in the console's words; looking is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from run_index import AuditEntry

from tests.support.held_runs import CALL, HeldRun
from tests.support.recorded_runs import finished, scripted
from tests.support.regions import MemoryTrail, MemoryWorkflows, write_role
from tests.unit.service.answers import problem, start

pytestmark = pytest.mark.unit

HELD, ENDED = "/v1/runs/run-1", "/v1/runs/run-2"
RERUN = {"run_id": "run-2~2", "from_step": 2}
DEEDS = {
    "cancel": ("POST", f"{HELD}/cancel", None),
    "approve": ("POST", f"{HELD}/approvals", {"tool_call_id": CALL, "approved": True, "who": "Ada"}),
    "deny": ("POST", f"{HELD}/approvals", {"tool_call_id": CALL, "approved": False, "who": "Ada", "message": "no"}),
    "rerun": ("POST", f"{ENDED}/rerun", RERUN),
    "download history": ("GET", f"{ENDED}/export", None),
}
ENTRIES = {
    "cancel": ("holder of the token", "run-1", ""),
    "approve": ("Ada", "run-1", CALL),
    "deny": ("Ada", "run-1", f"{CALL}: no"),
    "rerun": ("holder of the token", "run-2", '{"run_id":"run-2~2","from_step":2}'),
    "download history": ("holder of the token", "run-2", ""),
}


@pytest.fixture(autouse=True)
def runs(client: TestClient, workflows: MemoryWorkflows) -> None:
    """One that waits for a supervisor, and one that has ended."""
    start(client, "run-1")
    start(client, "run-2")
    export = finished(scripted([[("double", 4)]]))
    workflows.histories |= {"run-1": HeldRun().events(), "run-2": export.history()}
    workflows.exports["run-2"] = export
    workflows.become("run-2", "completed")


def do(client: TestClient, deed: str) -> int:
    method, path, body = DEEDS[deed]
    return client.request(method, path, json=body).status_code


@pytest.mark.parametrize("deed", DEEDS)
def test_a_deed_is_recorded_with_who_did_it_and_what_became_of_it(
    client: TestClient, trail: MemoryTrail, deed: str
) -> None:
    assert do(client, deed) in (200, 202)
    who, subject, detail = ENTRIES[deed]
    assert trail.entries == [
        AuditEntry(who, "api", "testclient", "a", deed, subject, detail, id=1, at=trail.entries[0].at, outcome="done")
    ]


@pytest.mark.parametrize("deed", DEEDS)
def test_what_can_not_be_recorded_is_not_done(
    client: TestClient, trail: MemoryTrail, workflows: MemoryWorkflows, asked: list[str], deed: str
) -> None:
    trail.unavailable = {"begin"}
    asked.clear()
    method, path, body = DEEDS[deed]
    assert "try again" in problem(client.request(method, path, json=body), 503)["detail"]
    assert (trail.entries, asked) == ([], [])


def test_what_is_refused_is_recorded_with_the_reason(client: TestClient, trail: MemoryTrail) -> None:
    assert client.post(f"{ENDED}/cancel").status_code == 409
    assert trail.entries[0].outcome == "refused: run run-2 is completed"


def test_what_failed_is_recorded_as_that(client: TestClient, trail: MemoryTrail, workflows: MemoryWorkflows) -> None:
    workflows.unavailable = True
    assert client.post(f"{HELD}/cancel").status_code == 503
    assert trail.entries[0].outcome == "failed: WorkflowUnavailableError"


def test_a_deed_whose_outcome_can_not_be_recorded_is_done_and_its_outcome_unknown(
    client: TestClient, trail: MemoryTrail, workflows: MemoryWorkflows
) -> None:
    trail.unavailable = {"end"}
    assert client.post(f"{HELD}/cancel").status_code == 200
    assert (workflows.states["run-1"].status, trail.entries[0].outcome) == ("terminated", None)


@pytest.mark.parametrize("deed", DEEDS)
def test_a_standby_and_a_stranger_do_and_record_nothing(
    client: TestClient, trail: MemoryTrail, role_file: Path, deed: str
) -> None:
    method, path, body = DEEDS[deed]
    assert client.request(method, path, json=body, headers={"Authorization": "Bearer no"}).status_code == 401
    write_role(role_file, "standby")
    assert do(client, deed) == 503
    assert trail.entries == []


def test_starting_and_looking_are_not_deeds(client: TestClient, trail: MemoryTrail) -> None:
    for path in ("/v1/runs", HELD, f"{HELD}/approvals", f"{ENDED}/history", f"{ENDED}/steps", "/v1/role"):
        assert client.get(path).status_code == 200
    assert trail.entries == []
