"""An agent over HTTP: starts, follows, decides and ends runs, for those who may."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient
from pydantic_ai import Agent
from pydantic_ai_dapr import DaprWorkflowAgentRunner, RunExistsError, RunStatus, WorkflowUnavailableError
from pydantic_ai_dapr.serving import check_exposure, http_api

pytestmark = pytest.mark.unit
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Runner:
    """Remembers what it was told."""

    name = "desk"

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.failure: Exception | None = None
        self.client = SimpleNamespace(
            terminate=lambda run_id: self.told.append(("terminate", run_id)),
            approve=lambda *call, **decision: self.told.append((*call, decision)),
        )

    def schedule(self, task: str, **options: Any) -> Any:
        if self.failure:
            raise self.failure
        self.told.append((task, options))
        return SimpleNamespace(run_id=options["run_id"] or "made-up")

    def status(self, run_id: str) -> RunStatus | None:
        if self.failure:
            raise self.failure
        known = RunStatus(run_id=run_id, status="running", created_at=NOW, updated_at=NOW)
        return known if run_id == "run-1" else None


@pytest.fixture
def runner() -> Runner:
    return Runner()


@pytest.fixture
def client(runner: Runner) -> TestClient:
    return TestClient(http_api(runner, "secret"), headers={"Authorization": "Bearer secret"})  # type: ignore[arg-type]


def test_a_run_is_started_followed_decided_and_ended(runner: Runner, client: TestClient) -> None:
    started = client.post("/agent/run", json={"task": "go", "workflow_id": "run-1", "session_id": "s"})
    assert (started.status_code, started.json()["status_url"]) == (202, "/agent/run/run-1")
    assert client.get("/agent/run/run-1").json()["status"] == "running"
    assert client.post("/agent/run/run-1/approvals/call-1", json={"approved": False, "message": "no"}).is_success
    assert client.delete("/agent/run/run-1").is_success
    assert runner.told == [
        ("go", {"conversation_id": "s", "run_id": "run-1"}),
        ("run-1", "call-1", {"approved": False, "message": "no"}),
        ("terminate", "run-1"),
    ]


@pytest.mark.parametrize("given", [{}, {"Authorization": "Bearer wrong"}])
def test_without_the_token_nothing_is_done(runner: Runner, given: dict[str, str]) -> None:
    client = TestClient(http_api(runner, "secret"), headers=given)  # type: ignore[arg-type]
    assert client.post("/agent/run", json={"task": "go"}).status_code == 401
    assert runner.told == []


@pytest.mark.parametrize(
    "body",
    [{}, {"task": 5}, {"task": "go", "extra": 1}, {"task": "go", "workflow_id": "../x"}, {"task": "x" * 1_000_001}],
)
def test_a_malformed_task_is_refused(runner: Runner, client: TestClient, body: dict[str, Any]) -> None:
    assert client.post("/agent/run", json=body).status_code == 422
    assert runner.told == []


def test_what_is_not_known_is_told(runner: Runner, client: TestClient) -> None:
    assert client.get("/agent/run/other").status_code == 404
    runner.failure = RunExistsError("a run run-1 exists already")
    assert client.post("/agent/run", json={"task": "go", "workflow_id": "run-1"}).status_code == 409
    runner.failure = WorkflowUnavailableError("no sidecar")
    assert client.post("/agent/run", json={"task": "go"}).status_code == 503
    assert client.get("/agent/run/run-1").status_code == 503


def test_nobody_is_served_beyond_this_machine_without_token_and_tls() -> None:
    check_exposure("127.0.0.1", None, None)
    check_exposure("0.0.0.0", "secret", "cert.pem")
    for token, certificate in (("secret", None), (None, "cert.pem")):
        with pytest.raises(ValueError, match="needs token=… and ssl_certfile"):
            check_exposure("0.0.0.0", token, certificate)


def test_who_serves_executes_runs_until_the_server_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    serving = DaprWorkflowAgentRunner(Agent("test", name="desk"), port=1)

    def run(app: Any, **options: Any) -> None:
        told.append((app.title, options["host"], options["port"]))
        raise KeyboardInterrupt

    monkeypatch.setattr(uvicorn, "run", run)
    monkeypatch.setattr(serving, "start", lambda: told.append("start"))
    monkeypatch.setattr(serving, "shutdown", lambda: told.append("shutdown"))
    with pytest.raises(ValueError, match="needs token"):
        serving.serve(host="0.0.0.0")
    assert told == []
    with pytest.raises(KeyboardInterrupt):
        serving.serve(port=6001)
    assert told == ["start", ("desk: durable runs", "127.0.0.1", 6001), "shutdown"]
