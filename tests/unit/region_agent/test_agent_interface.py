"""The agent tells callers with the token all that it knows, and the event log keeps what earlier agents did."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from region_agent import status
from region_agent.config import AgentConfig, EarlyReleaseConfig
from region_agent.events import EventLog
from region_agent.patroni import Member
from region_agent.role import RoleFile
from region_agent.silence import Silence
from region_agent.status import build_app

from tests.unit.region_agent.stand_ins import Clock

pytestmark = pytest.mark.unit

TOKEN = "the-token"


@asynccontextmanager
async def nothing(_: FastAPI) -> AsyncGenerator[None]:
    yield


@pytest.fixture
def agent(config: AgentConfig, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A standby that has heard nothing of the other region for two and a half seconds."""
    monkeypatch.setattr(status, "time", Clock())
    early = EarlyReleaseConfig(enabled=False)
    return SimpleNamespace(
        config=config.model_copy(update={"early_release": early}),
        role=RoleFile(config.role_file, "b").write("standby", 7),
        member=Member(role="replica", state="running", timeline=7, replication_state="streaming"),
        sweeper=None,
        local=None,
        events=None,
        peer=SimpleNamespace(
            silence=Silence(since=997.5, last_look=1000.0),
            decisions=Counter({"disabled": 3}),
            last_decision="disabled",
        ),
    )


@pytest.fixture
def client(agent: Any) -> TestClient:
    return TestClient(build_app(agent, TOKEN, nothing), headers={"Authorization": f"Bearer {TOKEN}"})


def test_the_status_is_the_agents_whole_knowledge(client: TestClient, agent: Any) -> None:
    assert client.get("/status").json() == {
        "region": "b",
        "role": "standby",
        "epoch": 7,
        "since": agent.role.since.isoformat().replace("+00:00", "Z"),
        "patroni": agent.member.model_dump(),
        "open_runs": 0,
        "runs_swept": 0,
        "stuck": [],
        "early_release": {
            "enabled": False,
            "silent_seconds": 2.5,
            "decisions": {"disabled": 3},
            "last": "disabled",
        },
    }


def test_the_role_is_the_files_which_is_ahead_while_a_region_activates(client: TestClient, agent: Any) -> None:
    agent.role_file = RoleFile(agent.config.role_file, "b")
    agent.role_file.write("activating", 8)
    said = client.get("/role").json()
    assert (said["region"], said["role"], said["epoch"]) == ("b", "activating", 8)

    agent.config.role_file.unlink()
    assert client.get("/role").status_code == 503


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/nowhere"])
def test_there_is_nothing_else(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("authorization", ["", "Bearer ", "Bearer the-token2", "Basic the-token", TOKEN])
@pytest.mark.parametrize("path", ["/status", "/role", "/metrics", "/nowhere"])
def test_without_the_token_only_health_is_told(client: TestClient, path: str, authorization: str) -> None:
    headers = {"Authorization": authorization}
    response = client.get(path, headers=headers)
    assert response.status_code == 401
    assert TOKEN not in response.text
    assert client.get("/healthz", headers=headers).json() == {"status": "ok"}


def test_an_event_is_on_file_with_its_time_when_it_was_recorded(config: AgentConfig, events: EventLog) -> None:
    before = time.time()
    events.record("activated", epoch=7, seconds=0.4)
    line = json.loads(config.events_file.read_text())
    assert before <= line.pop("at") <= time.time()
    assert line == {"event": "activated", "epoch": 7, "seconds": 0.4}


def test_an_agent_that_starts_again_adds_to_the_events(config: AgentConfig, events: EventLog) -> None:
    events.record("activated", epoch=7)
    EventLog(config.events_file).record("agent-started", role="active")
    events_on_file = [json.loads(line)["event"] for line in config.events_file.read_text().splitlines()]
    assert events_on_file == ["activated", "agent-started"]
