"""A start is acknowledged once it is in the index, and the same start again starts nothing."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.support.regions import MemoryIndex, MemoryWorkflows
from tests.unit.service.answers import TICKET, problem, start

pytestmark = pytest.mark.unit


def test_a_start_is_accepted_and_says_where_the_run_is(client: TestClient, workflows: MemoryWorkflows) -> None:
    response = start(client)
    assert response.status_code == 202
    assert response.headers["location"] == "/v1/runs/run-1"
    assert response.json() == {
        "run_id": "run-1",
        "agent": "refund-desk",
        "status": "accepted",
        "accepted_at": "2026-01-01T00:00:00Z",
        "updated_at": None,
        "output": None,
        "error": None,
        "rerun_of": None,
        "from_step": None,
    }
    assert workflows.states["run-1"].status == "running"


def test_the_workflow_gets_the_ticket_as_the_agent_reads_it(client: TestClient, workflows: MemoryWorkflows) -> None:
    start(client)
    given = workflows.inputs["run-1"]
    assert given.run_id == "run-1"
    assert given.deps == {"ticket_id": "T-1", "customer": "Ada", "hold_seconds": None}
    assert "My lamp is broken" in str(given.prompt)


def test_a_run_is_in_the_index_before_it_is_a_workflow(client: TestClient, asked: list[str]) -> None:
    start(client)
    assert [what.split()[:2] for what in asked] == [
        ["index", "accept"],
        ["workflow", "start"],
        ["index", "mark_scheduled"],
    ]


def test_the_same_start_again_is_answered_and_starts_nothing(client: TestClient, asked: list[str]) -> None:
    first = start(client)
    again = start(client)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.headers["location"] == first.headers["location"]
    assert again.json() == first.json()
    assert asked.count("workflow start run-1") == 1


def test_a_run_goes_on_in_the_trace_of_the_request_that_started_it(
    client: TestClient, workflows: MemoryWorkflows, index: MemoryIndex
) -> None:
    traces = [f"00-{number:032x}-00000000000000ab-01" for number in (1, 2)]
    for traceparent in traces:
        client.headers["traceparent"] = traceparent
        assert start(client).status_code in (200, 202)
    assert workflows.inputs["run-1"].trace == {"traceparent": traces[0]}
    assert index.runs["run-1"].input["trace"] == {"traceparent": traces[0]}


def test_another_input_under_the_same_id_is_a_conflict(client: TestClient, asked: list[str]) -> None:
    start(client)
    response = start(client, body="Something else")
    assert "choose another id" in problem(response, 409)["detail"]
    assert asked.count("workflow start run-1") == 1


def test_a_start_that_is_not_in_the_index_is_not_acknowledged(
    client: TestClient, index: MemoryIndex, workflows: MemoryWorkflows
) -> None:
    index.unavailable = {"accept"}
    response = start(client)
    assert "try again" in problem(response, 503)["detail"]
    assert response.headers["retry-after"] == "1"
    assert workflows.states == {}


def test_a_start_is_acknowledged_although_no_sidecar_answers(
    client: TestClient, index: MemoryIndex, workflows: MemoryWorkflows, caplog: pytest.LogCaptureFixture
) -> None:
    workflows.unavailable = True
    assert start(client).status_code == 202
    assert index.runs["run-1"].status == "accepted"
    assert "run run-1 is accepted and not scheduled yet" in caplog.text


def test_a_start_is_acknowledged_although_its_workflow_can_not_be_noted(
    client: TestClient, index: MemoryIndex, workflows: MemoryWorkflows
) -> None:
    index.unavailable = {"mark_scheduled"}
    assert start(client).status_code == 202
    assert workflows.states["run-1"].status == "running"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"body": None}, "input.body"),
        ({"body": ""}, "input.body"),
        ({"body": "x" * 20_001}, "input.body"),
        ({"ticket_id": "T 1"}, "input.ticket_id"),
        ({"order_id": 7}, "input.order_id"),
        ({"priority": "high"}, "input.priority"),
    ],
)
def test_a_malformed_ticket_is_refused_by_the_name_of_its_field(
    client: TestClient, index: MemoryIndex, change: dict[str, object], named: str
) -> None:
    response = start(client, **change)
    assert f"{named}: " in problem(response, 422)["detail"]
    assert index.runs == {}


@pytest.mark.parametrize("run_id", ["", "a b", "a/b", "x" * 101, "run-1\n", "ä", None, 7])
def test_a_run_id_that_would_not_fit_a_path_is_refused(client: TestClient, index: MemoryIndex, run_id: object) -> None:
    response = client.post("/v1/runs", json={"run_id": run_id, "input": TICKET})
    assert "body.run_id: " in problem(response, 422)["detail"]
    assert index.runs == {}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 422),
        (b"\xff\xfe", 422),
        ("{", 422),
        ("[]", 422),
        ('{"run_id": "run-1"}', 422),
        ('{"run_id": "run-1", "input": [], "x": 1}', 422),
        ('{"run_id": "run-1", "input": {"\\ud800": "\\ud800"}}', 422),
        ('{"run_id": "\\ud800", "input": {}}', 422),
        ('{"run_id": "run-1", "input": ' + '{"a": ' * 50_000 + "1" + "}" * 50_001, 400),
    ],
    ids=["nothing", "no-text", "open", "list", "no-input", "no-object", "surrogate", "surrogate-id", "deep"],
)
def test_a_body_that_is_no_start_is_refused(
    client: TestClient, index: MemoryIndex, body: str | bytes, status: int
) -> None:
    response = client.post("/v1/runs", content=body, headers={"Content-Type": "application/json"})
    problem(response, status)
    assert index.runs == {}


def test_a_ticket_that_the_database_can_not_hold_is_refused(client: TestClient, index: MemoryIndex) -> None:
    response = start(client, body="a NUL: \x00")
    assert "can't be stored" in problem(response, 422)["detail"]
    assert index.runs == {}
