"""A run says what it waits for a person to decide, and the first decision counts, however often it is sent."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from tests.support.held_runs import CALL, HeldRun
from tests.support.regions import MemoryIndex, MemoryWorkflows, write_role
from tests.unit.service.answers import problem, start

pytestmark = pytest.mark.unit

PATH = "/v1/runs/run-1/approvals"


@pytest.fixture
def held(client: TestClient, workflows: MemoryWorkflows) -> HeldRun:
    """A run that waits for a supervisor."""
    start(client)
    run = HeldRun()
    workflows.histories["run-1"] = run.events()
    return run


def decide(client: TestClient, approved: bool = True, call: str = CALL, **change: object) -> httpx.Response:
    return client.post(PATH, json={"tool_call_id": call, "approved": approved, "who": "Ada"} | change)


def test_what_a_run_waits_for_is_told_with_its_arguments(client: TestClient, held: HeldRun) -> None:
    (one,) = client.get(PATH).json()
    assert one["tool_call_id"] == CALL
    assert one["tool"] == "await_supervisor"
    assert one["arguments"]["order_id"] == "ORD-10038"


@pytest.mark.parametrize("approved", [True, False])
def test_a_decision_is_given_to_the_run_with_who_made_it(
    client: TestClient, workflows: MemoryWorkflows, held: HeldRun, approved: bool
) -> None:
    assert decide(client, approved, message="because").status_code == 202
    assert workflows.decisions == [("run-1", CALL, approved, "because", "Ada")]


@pytest.mark.parametrize("approved", [True, False])
def test_the_same_decision_again_changes_nothing_also_when_the_run_has_ended(
    client: TestClient, workflows: MemoryWorkflows, held: HeldRun, approved: bool
) -> None:
    held.decide(approved)
    workflows.histories["run-1"] = held.events()
    assert decide(client, approved).status_code == 200
    workflows.become("run-1", "completed")
    assert decide(client, approved).status_code == 200
    detail = problem(decide(client, not approved), 409)["detail"]
    assert ("was approved before" if approved else "was denied before") in detail
    assert workflows.decisions == []
    assert client.get(PATH).json() == []


def test_a_call_that_is_decided_and_not_made_yet_waits_no_more(
    client: TestClient, workflows: MemoryWorkflows, held: HeldRun
) -> None:
    held.engine.turn()
    held.decide(True, call="another")
    workflows.histories["run-1"] = held.events()
    assert [one["tool_call_id"] for one in client.get(PATH).json()] == [CALL]
    held.decide(True)
    workflows.histories["run-1"] = held.events()
    assert client.get(PATH).json() == []


def test_a_decision_that_comes_after_the_patience_has_ended_is_refused(
    client: TestClient, workflows: MemoryWorkflows, held: HeldRun
) -> None:
    held.run_out_of_patience()
    workflows.histories["run-1"] = held.events()
    assert held.engine.ended
    workflows.become("run-1", "completed")
    assert "completed" in problem(decide(client), 409)["detail"]
    assert workflows.decisions == []


@pytest.mark.parametrize("call", ["call-0-lookup_order", "call-3-other"])
def test_a_decision_about_a_call_that_does_not_wait_is_refused(
    client: TestClient, workflows: MemoryWorkflows, held: HeldRun, call: str
) -> None:
    assert "does not wait" in problem(decide(client, call=call), 409)["detail"]
    assert workflows.decisions == []


def test_a_run_that_nobody_accepted_is_not_found(client: TestClient) -> None:
    problem(client.get(PATH), 404)
    problem(decide(client), 404)


def test_a_run_without_a_workflow_waits_for_nothing(client: TestClient, workflows: MemoryWorkflows) -> None:
    workflows.unavailable = True
    start(client)
    workflows.unavailable = False
    assert client.get(PATH).json() == []
    problem(decide(client), 409)


def test_a_run_that_has_done_nothing_yet_waits_for_nothing(client: TestClient, workflows: MemoryWorkflows) -> None:
    start(client)
    assert client.get(PATH).json() == []
    problem(decide(client), 409)


@pytest.mark.parametrize(
    "change",
    [
        {"who": ""},
        {"who": "x" * 201},
        {"call": ""},
        {"call": "a b"},
        {"call": "x" * 201},
        {"approved": "perhaps"},
        {"message": "x" * 10_001},
        {"other": 1},
    ],
)
def test_a_decision_that_makes_no_sense_is_refused(
    client: TestClient, workflows: MemoryWorkflows, held: HeldRun, change: dict[str, object]
) -> None:
    body = {"tool_call_id": change.pop("call", CALL), "approved": True, "who": "Ada"} | change
    problem(client.post(PATH, json=body), 422)
    assert workflows.decisions == []


def test_a_decision_waits_for_the_region_that_is_active_and_for_its_parts(
    client: TestClient, workflows: MemoryWorkflows, index: MemoryIndex, held: HeldRun, role_file: Path
) -> None:
    workflows.unavailable = True
    problem(decide(client), 503)
    problem(client.get(PATH), 503)
    workflows.unavailable = False
    index.unavailable = {"get"}
    problem(decide(client), 503)
    index.unavailable = set()
    write_role(role_file, "standby")
    problem(decide(client), 503)
    assert workflows.decisions == []


def test_a_decision_needs_the_token(client: TestClient, workflows: MemoryWorkflows, held: HeldRun) -> None:
    body = {"tool_call_id": CALL, "approved": True, "who": "Mallory"}
    assert client.post(PATH, json=body, headers={"Authorization": ""}).status_code == 401
    assert workflows.decisions == []
