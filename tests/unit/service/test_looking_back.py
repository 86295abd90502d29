"""What a run did is told step by step and given away as a file; an ended run is run again, a row before a workflow."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic_ai_dapr import Export, HistoryEvent, HistoryTamperedError, PayloadLostError

from tests.support.recorded_runs import finished, scripted
from tests.support.regions import SINCE, MemoryIndex, MemoryWorkflows
from tests.unit.service.answers import problem, start

pytestmark = pytest.mark.unit

RERUN = "/v1/runs/run-1/rerun"


@pytest.fixture
def ended(client: TestClient, workflows: MemoryWorkflows) -> Export:
    """A run that has called a tool and ended, as its engine has it."""
    start(client)
    export = finished(scripted([[("double", 4)]]))
    workflows.become("run-1", "completed", output={"output": "done"})
    workflows.histories["run-1"], workflows.exports["run-1"] = export.history(), export
    return export


class TestSteps:
    def test_every_step_has_its_input_output_attempt_and_duration(self, client: TestClient, ended: Export) -> None:
        model, tool, last = client.get("/v1/runs/run-1/steps").json()
        assert [(one["ordinal"], one["kind"], one["name"], one["attempt"]) for one in (model, tool, last)] == [
            (1, "model", "model", 1),
            (2, "tool", "double", 1),
            (3, "model", "model", 1),
        ]
        assert (tool["input"]["args"], tool["output"]["result"], tool["error"]) == ({"n": 4}, 8, None)
        assert tool["seconds"] > 0

    def test_a_run_without_a_workflow_has_no_steps(self, client: TestClient, workflows: MemoryWorkflows) -> None:
        workflows.unavailable = True
        start(client)
        workflows.unavailable = False
        assert client.get("/v1/runs/run-1/steps").json() == []

    def test_what_was_lost_from_beside_a_history_is_told(
        self, client: TestClient, workflows: MemoryWorkflows, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def lost(run_id: str) -> list[HistoryEvent]:
            raise PayloadLostError("the state store has no whole run-1|x")

        start(client)
        monkeypatch.setattr(workflows, "history", lost)
        assert "no whole run-1|x" in problem(client.get("/v1/runs/run-1/steps"), 410)["detail"]

    @pytest.mark.parametrize("child", ["run-1.2", "run-1~2.3.1", "run-1~2:0003", "run-1.2.1.remote"])
    def test_what_a_run_asked_another_has_a_history_and_was_never_accepted(
        self, client: TestClient, workflows: MemoryWorkflows, child: str
    ) -> None:
        workflows.become(child, "running")
        workflows.histories[child] = [HistoryEvent(sequence=0, type="executionStarted", timestamp=SINCE)]
        assert [one["type"] for one in client.get(f"/v1/runs/{child}/history").json()] == ["executionStarted"]
        run = client.get(f"/v1/runs/{child}").json()
        assert (run["run_id"], run["status"], run["accepted_at"]) == (child, "running", "2026-01-01T00:00:00Z")
        assert client.get("/v1/runs").json()["runs"] == []
        for what in ("cancel", "rerun"):
            body = {"run_id": f"{child.partition('~')[0]}~9"}
            problem(client.post(f"/v1/runs/{child}/{what}", json=body), 404)


class TestExport:
    def test_an_export_is_the_library_s_file(self, client: TestClient, ended: Export, tmp_path: Path) -> None:
        response = client.get("/v1/runs/run-1/export")
        ended.save(tmp_path / "saved.json")
        assert response.content == (tmp_path / "saved.json").read_bytes()
        assert response.headers["content-type"] == "application/json"
        assert response.headers["content-disposition"] == 'attachment; filename="run-1.json"'
        assert response.headers["cache-control"] == "no-store"
        (tmp_path / "given.json").write_bytes(response.content)
        assert Export.load(tmp_path / "given.json") == ended

    def test_a_run_that_has_no_history_yet_is_told(self, client: TestClient, workflows: MemoryWorkflows) -> None:
        start(client)
        assert "has no beginning" in problem(client.get("/v1/runs/run-1/export"), 409)["detail"]
        workflows.states.clear()
        assert "has no workflow yet" in problem(client.get("/v1/runs/run-1/export"), 409)["detail"]


class TestFilters:
    @pytest.mark.parametrize(
        ("query", "shown"),
        [
            ({}, ["T-12", "T-2", "T-1"]),
            ({"id_contains": "T-1"}, ["T-12", "T-1"]),
            ({"id_contains": "%"}, []),
            ({"agent": "refund-desk"}, ["T-12", "T-2", "T-1"]),
            ({"agent": "nobody"}, []),
            ({"since": "2026-01-01T00:00:01Z"}, ["T-12", "T-2"]),
            ({"until": "2026-01-01T02:00:01+02:00"}, ["T-1"]),
            ({"since": "2026-01-01T00:00:01Z", "id_contains": "1"}, ["T-12"]),
        ],
    )
    def test_runs_are_found_by_agent_time_and_text_of_their_id(
        self, client: TestClient, query: dict[str, str], shown: list[str]
    ) -> None:
        for run_id in ("T-1", "T-2", "T-12"):
            start(client, run_id)
        assert [run["run_id"] for run in client.get("/v1/runs", params=query).json()["runs"]] == shown

    @pytest.mark.parametrize(
        "query",
        [
            "since=yesterday",
            "until=2026-01-01T00:00:00",
            f"agent={'x' * 201}",
            f"id_contains={'x' * 201}",
            "status=done",
            "limit=1001",
        ],
    )
    def test_a_filter_that_makes_no_sense_is_refused(self, client: TestClient, query: str) -> None:
        assert f"query.{query.split('=')[0]}" in problem(client.get(f"/v1/runs?{query}"), 422)["detail"]


@pytest.mark.usefixtures("ended")
class TestRerun:
    def test_a_whole_rerun_is_a_row_first_and_keeps_its_keys(
        self, client: TestClient, workflows: MemoryWorkflows, asked: list[str]
    ) -> None:
        asked.clear()
        response = client.post(RERUN, json={"run_id": "run-1~2"})
        assert (response.status_code, response.headers["location"]) == (202, "/v1/runs/run-1~2")
        run = response.json()
        assert (run["run_id"], run["rerun_of"], run["from_step"]) == ("run-1~2", "run-1", None)
        assert asked == [
            "index get run-1",
            "workflow status run-1",
            "index accept run-1~2",
            "workflow start run-1~2",
            "index mark_scheduled run-1~2",
        ]
        assert workflows.inputs["run-1~2"] == workflows.inputs["run-1"]
        assert workflows.inputs["run-1~2"].run_id == "run-1"

    def test_a_rerun_from_a_step_keeps_what_was_answered_before(
        self, client: TestClient, workflows: MemoryWorkflows, index: MemoryIndex
    ) -> None:
        response = client.post(RERUN, json={"run_id": "run-1~2", "from_step": 2})
        assert (response.status_code, response.json()["from_step"]) == (202, 2)
        assert workflows.reruns == {"run-1~2": ("run-1", 2)}
        assert (index.runs["run-1~2"].rerun_of, index.runs["run-1~2"].rerun_step) == ("run-1", 2)

    def test_a_fresh_rerun_has_keys_of_its_own(self, client: TestClient, workflows: MemoryWorkflows) -> None:
        assert client.post(RERUN, json={"run_id": "run-1~2", "fresh": True}).status_code == 202
        assert workflows.inputs["run-1~2"].run_id == "run-1~2"
        assert workflows.inputs["run-1~2"].prompt == workflows.inputs["run-1"].prompt

    def test_a_rerun_is_run_again_and_still_has_the_first_run_s_keys(
        self, client: TestClient, workflows: MemoryWorkflows
    ) -> None:
        client.post(RERUN, json={"run_id": "run-1~2"})
        workflows.become("run-1~2", "completed")
        again = client.post("/v1/runs/run-1~2/rerun", json={"run_id": "run-1~3"}).json()
        assert (again["run_id"], again["rerun_of"]) == ("run-1~3", "run-1~2")
        assert workflows.inputs["run-1~3"].run_id == "run-1"
        assert [run["run_id"] for run in client.get("/v1/runs?id_contains=~").json()["runs"]] == ["run-1~3", "run-1~2"]

    def test_the_same_rerun_again_is_answered_and_starts_nothing(self, client: TestClient, asked: list[str]) -> None:
        body = {"run_id": "run-1~2", "from_step": 2}
        first, again = client.post(RERUN, json=body), client.post(RERUN, json=body)
        assert (first.status_code, again.status_code) == (202, 200)
        assert again.headers["location"] == first.headers["location"]
        assert asked.count("workflow rerun_from run-1") == 1

    @pytest.mark.parametrize("other", [{}, {"from_step": 1}, {"fresh": True}])
    def test_another_rerun_under_the_same_id_is_a_conflict(self, client: TestClient, other: dict[str, object]) -> None:
        client.post(RERUN, json={"run_id": "run-1~2", "from_step": 2})
        response = client.post(RERUN, json={"run_id": "run-1~2", **other})
        assert "choose another number" in problem(response, 409)["detail"]

    def test_a_rerun_whose_sidecar_does_not_answer_is_accepted_all_the_same(
        self, client: TestClient, workflows: MemoryWorkflows, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def gone(run_id: str, step: int, new_id: str) -> None:
            raise ValueError(f"run {run_id} is unknown")

        monkeypatch.setattr(workflows, "rerun_from", gone)
        response = client.post(RERUN, json={"run_id": "run-1~2", "from_step": 2})
        assert (response.status_code, response.json()["status"]) == (202, "accepted")
        assert client.get("/v1/runs/run-1~2").json()["status"] == "accepted"

    def test_a_run_that_has_not_ended_is_not_run_again(
        self, client: TestClient, index: MemoryIndex, workflows: MemoryWorkflows
    ) -> None:
        workflows.become("run-1", "running")
        for body in ({"run_id": "run-1~2"}, {"run_id": "run-1~2", "from_step": 2}):
            assert (
                "run run-1 is running; only a run that has ended"
                in problem(client.post(RERUN, json=body), 409)["detail"]
            )
        workflows.states.clear()
        assert "run run-1 is accepted" in problem(client.post(RERUN, json={"run_id": "run-1~2"}), 409)["detail"]
        assert "run-1~2" not in index.runs

    def test_a_run_that_was_cancelled_before_it_had_a_workflow_is_run_again(
        self, client: TestClient, index: MemoryIndex, workflows: MemoryWorkflows
    ) -> None:
        workflows.states.clear()
        client.post("/v1/runs/run-1/cancel")
        assert index.runs["run-1"].closed_at is not None
        assert client.post(RERUN, json={"run_id": "run-1~2"}).status_code == 202
        assert workflows.states["run-1~2"].status == "running"

    def test_a_step_that_a_run_does_not_have_is_refused(self, client: TestClient, index: MemoryIndex) -> None:
        response = client.post(RERUN, json={"run_id": "run-1~2", "from_step": 9})
        assert "body.from_step: run run-1 can't be run again from operation 9" in problem(response, 422)["detail"]
        assert "run-1~2" not in index.runs

    @pytest.mark.parametrize(
        ("body", "told"),
        [
            ({}, "body.run_id"),
            ({"run_id": "run-1"}, "body.run_id"),
            ({"run_id": "run-1~0"}, "body.run_id"),
            ({"run_id": "run-1~x"}, "body.run_id"),
            ({"run_id": "run-2~2"}, "a rerun of run-1 is called run-1~ with a number, such as run-1~2"),
            ({"run_id": "run-1~2", "from_step": 0}, "body.from_step"),
            ({"run_id": "run-1~2", "from_step": 2, "fresh": True}, "leave fresh out"),
            ({"run_id": "run-1~2", "step": 2}, "body.step"),
        ],
    )
    def test_a_rerun_that_makes_no_sense_is_refused(
        self, client: TestClient, index: MemoryIndex, body: dict[str, object], told: str
    ) -> None:
        assert told in problem(client.post(RERUN, json=body), 422)["detail"]
        assert set(index.runs) == {"run-1"}

    def test_a_client_s_own_start_can_not_take_a_rerun_s_id(self, client: TestClient) -> None:
        problem(start(client, "run-1~2"), 422)


def test_a_run_that_was_tampered_with_is_told_so_for_good(
    client: TestClient, workflows: MemoryWorkflows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tampered(run_id: str) -> None:
        raise HistoryTamperedError("workflow history signature verification failed for 'run-1'")

    start(client)
    monkeypatch.setattr(workflows, "status", tampered)
    for path in ("", "/history", "/steps", "/approvals"):
        assert "signature verification failed" in problem(client.get(f"/v1/runs/run-1{path}"), 410)["detail"]
