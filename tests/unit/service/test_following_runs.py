"""A run is found, listed, followed and cancelled, whether its workflow exists already or not yet."""

from __future__ import annotations

import json
from datetime import timedelta

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic_ai_dapr import HistoryEvent, RunError, RunStatus
from service import api

from tests.support.regions import SINCE, MemoryIndex, MemoryWorkflows
from tests.unit.service.answers import problem, start

pytestmark = pytest.mark.unit

PATHS = [("GET", ""), ("GET", "/history"), ("POST", "/cancel"), ("GET", "/events")]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Followers look again without a pause."""
    monkeypatch.setattr(api, "FOLLOW_EVERY_SECONDS", 0)


def step(sequence: int, kind: str = "taskCompleted") -> HistoryEvent:
    return HistoryEvent(sequence=sequence, type=kind, timestamp=SINCE + timedelta(seconds=sequence))


def events(response: httpx.Response) -> list[tuple[str, dict[str, object]]]:
    """Each event's name and data."""
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    read: list[tuple[str, dict[str, object]]] = []
    for block in response.text.split("\n\n")[:-1]:
        name, data = block.split("\n")
        read.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return read


def accepted_only(client: TestClient, workflows: MemoryWorkflows) -> None:
    """Start a run while no sidecar answers: it has no workflow yet."""
    workflows.unavailable = True
    assert start(client).status_code == 202
    workflows.unavailable = False


class TestOneRun:
    def test_a_run_has_its_workflow_s_state(self, client: TestClient, workflows: MemoryWorkflows) -> None:
        start(client)
        workflows.become("run-1", "completed", output={"outcome": "refunded"})
        assert client.get("/v1/runs/run-1").json() == {
            "run_id": "run-1",
            "agent": "refund-desk",
            "status": "completed",
            "accepted_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:01:00Z",
            "output": {"outcome": "refunded"},
            "error": None,
            "rerun_of": None,
            "from_step": None,
        }

    def test_a_failed_run_says_why(self, client: TestClient, workflows: MemoryWorkflows) -> None:
        start(client)
        workflows.become("run-1", "failed", error=RunError(type="ValueError", message="no such order"))
        run = client.get("/v1/runs/run-1").json()
        assert (run["status"], run["error"]) == ("failed", "ValueError: no such order")

    def test_a_run_without_a_workflow_is_accepted_and_has_no_history(
        self, client: TestClient, workflows: MemoryWorkflows
    ) -> None:
        accepted_only(client, workflows)
        assert client.get("/v1/runs/run-1").json()["status"] == "accepted"
        response = client.get("/v1/runs/run-1/history")
        assert (response.status_code, response.json()) == (200, [])

    def test_the_history_is_every_event_in_order(self, client: TestClient, workflows: MemoryWorkflows) -> None:
        start(client)
        workflows.histories["run-1"] = [step(0, "executionStarted"), step(1)]
        history = client.get("/v1/runs/run-1/history").json()
        assert [(event["sequence"], event["type"]) for event in history] == [
            (0, "executionStarted"),
            (1, "taskCompleted"),
        ]

    @pytest.mark.parametrize(("method", "what"), PATHS)
    def test_a_run_nobody_accepted_is_not_found(self, client: TestClient, method: str, what: str) -> None:
        assert "no run run-9 was accepted" in problem(client.request(method, f"/v1/runs/run-9{what}"), 404)["detail"]

    @pytest.mark.parametrize(("method", "what"), PATHS)
    def test_what_is_no_run_id_is_refused(self, client: TestClient, method: str, what: str) -> None:
        problem(client.request(method, f"/v1/runs/{'x' * 201}{what}"), 422)
        problem(client.request(method, f"/v1/runs/a%00b{what}"), 422)

    @pytest.mark.parametrize(("method", "what"), PATHS)
    def test_a_database_that_is_lost_is_told(
        self, client: TestClient, index: MemoryIndex, method: str, what: str
    ) -> None:
        index.unavailable = {"get"}
        response = client.request(method, f"/v1/runs/run-1{what}")
        assert "try again" in problem(response, 503)["detail"]
        assert response.headers["retry-after"] == "1"

    @pytest.mark.parametrize(("method", "what"), PATHS[:3])
    def test_a_sidecar_that_is_lost_is_told(
        self, client: TestClient, workflows: MemoryWorkflows, method: str, what: str
    ) -> None:
        start(client)
        workflows.unavailable = True
        assert "UNAVAILABLE" in problem(client.request(method, f"/v1/runs/run-1{what}"), 503)["detail"]


class TestManyRuns:
    def test_pages_lead_from_the_newest_run_to_the_oldest(self, client: TestClient) -> None:
        for number in range(5):
            start(client, f"run-{number}")
        pages: list[list[str]] = []
        query: dict[str, str] | None = {"limit": "2"}
        while query:
            page = client.get("/v1/runs", params=query).json()
            pages.append([run["run_id"] for run in page["runs"]])
            query = {"limit": "2", "cursor": page["next"]} if page["next"] else None
        assert pages == [["run-4", "run-3"], ["run-2", "run-1"], ["run-0"]]

    def test_runs_of_one_status_are_listed_alone(self, client: TestClient, index: MemoryIndex) -> None:
        for number in range(3):
            start(client, f"run-{number}")
        index.close_run("run-1", "failed", "ValueError: no")
        listed = client.get("/v1/runs?status=failed").json()
        assert listed["next"] is None
        assert [(run["run_id"], run["error"]) for run in listed["runs"]] == [("run-1", "ValueError: no")]

    @pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", f"status={'x' * 41}", f"cursor={'x' * 301}"])
    def test_a_page_that_makes_no_sense_is_refused(self, client: TestClient, query: str) -> None:
        assert f"query.{query.split('=')[0]}" in problem(client.get(f"/v1/runs?{query}"), 422)["detail"]

    @pytest.mark.parametrize("cursor", ["x", "AAAA", "ä", "_____w==", "MjAyNi0wMS0wMQ", ""])
    def test_a_cursor_that_was_made_up_is_refused(self, client: TestClient, cursor: str) -> None:
        assert "use the value of `next`" in problem(client.get("/v1/runs", params={"cursor": cursor}), 422)["detail"]

    def test_a_database_that_is_lost_is_told(self, client: TestClient, index: MemoryIndex) -> None:
        index.unavailable = {"page"}
        problem(client.get("/v1/runs"), 503)


class TestFollowing:
    def test_each_step_is_told_once_and_then_the_end(
        self, client: TestClient, workflows: MemoryWorkflows, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start(client)
        steps = [step(number) for number in range(3)]
        growing = iter([steps[:1], steps[:1], steps[:2], steps])

        def status(run_id: str) -> RunStatus:
            workflows.histories[run_id] = next(growing)
            if len(workflows.histories[run_id]) == 3:
                workflows.become(run_id, "completed", output={"outcome": "refunded"})
            return workflows.states[run_id]

        monkeypatch.setattr(workflows, "status", status)
        told = events(client.get("/v1/runs/run-1/events"))
        assert told[:3] == [("step", one.model_dump(mode="json")) for one in steps]
        assert told[3:] == [
            ("end", {"run_id": "run-1", "status": "completed", "output": {"outcome": "refunded"}}),
        ]

    def test_a_run_is_followed_before_it_has_a_workflow(
        self, client: TestClient, workflows: MemoryWorkflows, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        accepted_only(client, workflows)
        looks = iter([False, False, True])

        def status(run_id: str) -> RunStatus | None:
            if next(looks):
                workflows.become(run_id, "completed")
                workflows.histories[run_id] = [step(0)]
            return workflows.states.get(run_id)

        monkeypatch.setattr(workflows, "status", status)
        assert [name for name, _ in events(client.get("/v1/runs/run-1/events"))] == ["step", "end"]

    def test_a_run_that_was_cancelled_before_it_had_a_workflow_has_ended(
        self, client: TestClient, workflows: MemoryWorkflows
    ) -> None:
        accepted_only(client, workflows)
        client.post("/v1/runs/run-1/cancel")
        assert events(client.get("/v1/runs/run-1/events")) == [
            ("end", {"run_id": "run-1", "status": "terminated", "output": None})
        ]

    def test_a_follower_is_told_when_no_sidecar_answers(self, client: TestClient, workflows: MemoryWorkflows) -> None:
        start(client)
        workflows.unavailable = True
        assert events(client.get("/v1/runs/run-1/events")) == [
            ("unavailable", {"detail": "the sidecar answered UNAVAILABLE"})
        ]

    def test_a_follower_is_told_when_the_database_is_lost(
        self, client: TestClient, index: MemoryIndex, workflows: MemoryWorkflows, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        accepted_only(client, workflows)

        def status(run_id: str) -> None:
            index.unavailable = {"get"}

        monkeypatch.setattr(workflows, "status", status)
        assert [name for name, _ in events(client.get("/v1/runs/run-1/events"))] == ["unavailable"]


class TestCancelling:
    def test_a_run_that_is_cancelled_is_terminated(self, client: TestClient, asked: list[str]) -> None:
        start(client)
        response = client.post("/v1/runs/run-1/cancel")
        assert (response.status_code, response.json()["status"]) == (200, "terminated")
        assert "workflow terminate run-1" in asked

    @pytest.mark.parametrize("ended", ["completed", "failed", "terminated"])
    def test_a_run_that_has_ended_can_not_be_cancelled(
        self, client: TestClient, workflows: MemoryWorkflows, asked: list[str], ended: str
    ) -> None:
        start(client)
        workflows.become("run-1", ended)
        assert f"run run-1 is {ended}" in problem(client.post("/v1/runs/run-1/cancel"), 409)["detail"]
        assert "workflow terminate run-1" not in asked

    def test_a_run_without_a_workflow_never_gets_one_once_it_is_cancelled(
        self, client: TestClient, index: MemoryIndex, workflows: MemoryWorkflows
    ) -> None:
        accepted_only(client, workflows)
        run = client.post("/v1/runs/run-1/cancel").json()
        assert (run["status"], run["error"]) == ("terminated", "cancelled before it was scheduled")
        assert index.runs["run-1"].closed_at is not None
        assert start(client).json()["status"] == "terminated"
        assert workflows.states == {}
