"""What the observer tells, and what the supervisor is asked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi.testclient import TestClient
from region_agent import observer
from region_agent.config import AgentConfig
from region_agent.observer import Observer, ObserverConfig
from region_agent.supervisor import Supervisor, SupervisorError

pytestmark = pytest.mark.unit
TOKEN = "t" * 40


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
