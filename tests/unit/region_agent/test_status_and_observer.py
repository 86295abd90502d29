"""What the agent and the observer tell, and whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from region_agent import observer
from region_agent.config import AgentConfig
from region_agent.observer import Observer, ObserverConfig
from region_agent.patroni import Member
from region_agent.role import RoleFile
from region_agent.silence import Silence
from region_agent.status import build_app
from region_agent.supervisor import Supervisor, SupervisorError

pytestmark = pytest.mark.unit
TOKEN = "t" * 40


@asynccontextmanager
async def nothing(_: FastAPI) -> AsyncGenerator[None]:
    yield


@pytest.fixture
def agent(config: AgentConfig) -> Any:
    return SimpleNamespace(
        config=config,
        role=RoleFile(config.role_file, "b").write("active", 7),
        member=Member(role="primary", state="running", timeline=7),
        sweeper=SimpleNamespace(open_count=12, swept_total=30, stuck={"run-9": 61.0, "run-2": 70.0}),
        peer=SimpleNamespace(silence=Silence(), decisions={"released": 1, "no-quorum": 2}, last_decision="released"),
    )


@pytest.fixture
def client(agent: Any) -> TestClient:
    return TestClient(build_app(agent, TOKEN, nothing), headers={"Authorization": f"Bearer {TOKEN}"})


def test_the_status_names_role_epoch_and_stuck_runs(client: TestClient) -> None:
    told = client.get("/status").json()
    assert (told["region"], told["role"], told["epoch"]) == ("b", "active", 7)
    assert told["stuck"] == ["run-2", "run-9"]
    assert (told["open_runs"], told["runs_swept"]) == (12, 30)
    assert told["early_release"]["decisions"] == {"released": 1, "no-quorum": 2}


def test_the_metrics_say_the_same(client: TestClient) -> None:
    lines = client.get("/metrics").text.splitlines()
    assert "holdfast_region_active 1.0" in lines
    assert "holdfast_epoch 7.0" in lines
    assert "holdfast_runs_open 12.0" in lines
    assert "holdfast_runs_stuck 2.0" in lines
    assert "holdfast_runs_swept_total 30.0" in lines
    assert 'holdfast_early_release_decisions_total{reason="no-quorum"} 2.0' in lines


def test_an_agent_that_knows_nothing_yet_says_so(agent: Any) -> None:
    agent.role = agent.member = agent.sweeper = None
    client = TestClient(build_app(agent, TOKEN, nothing), headers={"Authorization": f"Bearer {TOKEN}"})
    told = client.get("/status").json()
    assert (told["role"], told["epoch"], told["open_runs"]) == ("unknown", None, 0)
    assert "holdfast_region_active 0.0" in client.get("/metrics").text


@pytest.mark.parametrize("path", ["/status", "/metrics"])
def test_nothing_is_told_without_the_token(agent: Any, path: str) -> None:
    stranger = TestClient(build_app(agent, TOKEN, nothing))
    assert stranger.get(path).status_code == 401
    assert stranger.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert stranger.get("/healthz").json() == {"status": "ok"}


def test_the_observer_tells_how_long_each_region_has_been_silent(
    config: AgentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer, "CALM_SECONDS", 0.001)
    monkeypatch.setattr(observer, "SUSPICIOUS_SECONDS", 0.001)
    real = httpx.AsyncClient

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "a":
            raise httpx.ConnectError("silent")
        return httpx.Response(200)

    def connect(**options: Any) -> httpx.AsyncClient:
        return real(transport=httpx.MockTransport(answer))

    monkeypatch.setattr(observer.httpx, "AsyncClient", connect)
    monkeypatch.setattr(type(config.tls), "client_context", lambda self: None)
    targets = {name: {"patroni": f"https://{name}", "etcd": f"https://{name}"} for name in ("a", "b")}
    made = ObserverConfig.model_validate(
        {"listen": "127.0.0.1:1", "tls": config.tls, "targets": targets, "events_file": tmp_path / "observer.jsonl"}
    )
    watching = Observer(made)
    with TestClient(observer.build_app(watching, ["a", "b"])) as client:

        def seen() -> dict[str, Any]:
            return cast("dict[str, Any]", client.get("/observations").json())

        while not seen()["targets"]["a"]["silent_seconds"]:
            pass
        told = seen()
    assert told["boot_id"] == watching.boot_id
    assert told["targets"]["b"]["silent_seconds"] == 0
    assert '"silence-began"' in (tmp_path / "observer.jsonl").read_text()


def test_the_supervisor_is_asked_only_for_what_changes_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path))
        processes = [
            {"name": "daprd-1", "pid": 21, "is_running": True},
            {"name": "daprd-2", "pid": 0, "is_running": False},
        ]
        if request.url.path.endswith("refused"):
            return httpx.Response(400, text="no such process")
        return httpx.Response(200, json={"data": processes})

    supervisor = Supervisor(tmp_path / "supervisor.sock")
    supervisor._client = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://supervisor")

    async def run() -> None:
        assert await supervisor.running() == {"daprd-1": 21}
        for process in ("daprd-1", "daprd-2"):
            await supervisor.start(process)
            await supervisor.stop(process)
        with pytest.raises(SupervisorError, match="no such process"):
            await supervisor.start("refused")

    asyncio.run(run())
    changes = [one for one in asked if one != ("GET", "/processes")]
    assert changes == [
        ("PATCH", "/process/stop/daprd-1"),
        ("POST", "/process/start/daprd-2"),
        ("POST", "/process/start/refused"),
    ]


def test_a_supervisor_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(SupervisorError, match="does not answer GET /processes"):
        asyncio.run(Supervisor(tmp_path / "supervisor.sock").running())
