"""A region's metrics are told by its agent alone: its own, its database's, and those of who can't guard theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from region_agent.config import AgentConfig, Neighbour
from region_agent.metrics import Neighbours, StatusCollector, add_metrics
from region_agent.patroni import Member
from region_agent.role import RoleFile
from region_agent.silence import Silence
from region_agent.status import status_of
from run_index import IndexUnavailableError

from infra.local.identity import Authority, KeyPair
from tests.unit.region_agent.stand_ins import client_of

pytestmark = pytest.mark.unit

KNOWN = (Neighbour(process="daprd-1", port=3500), Neighbour(process="worker-1", port=3501, takes_token=True))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    pair = KeyPair(tmp_path / "node.crt", tmp_path / "node.key")
    Authority(tmp_path).leaf(pair, "region-b")
    return pair.certificate


@pytest.fixture
def agent(config: AgentConfig) -> Any:
    """A standby whose Patroni reached the lease store two and a half seconds ago."""
    return SimpleNamespace(
        config=config,
        role=RoleFile(config.role_file, "b").write("standby", 7),
        member=Member(role="replica", state="running", timeline=7, dcs_last_seen=1000),
        sweeper=None,
        peer=SimpleNamespace(silence=Silence(), decisions=Counter({"disabled": 3}), last_decision="disabled"),
    )


class SilentDatabase:
    """Says nothing in time."""

    def connection(self) -> Any:
        raise IndexUnavailableError("the run index can't be used: NoAnswerError")


def of(answer: Callable[[httpx.Request], httpx.Response], registry: CollectorRegistry | None = None) -> TestClient:
    app = FastAPI()
    neighbours = Neighbours(KNOWN, client_of(answer), "dapr-token")
    add_metrics(app, registry or CollectorRegistry(), SilentDatabase(), neighbours)  # type: ignore[arg-type]
    from serving import harden

    harden(app, token="t", max_body_bytes=10)
    return TestClient(app, headers={"Authorization": "Bearer t"})


def refused(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def test_the_agent_s_own_metrics_say_since_when_and_how_old_the_lease_is(agent: Any, certificate: Path) -> None:
    registry = CollectorRegistry()
    registry.register(StatusCollector(lambda: status_of(agent), certificate, now=lambda: 1002.5))  # type: ignore[arg-type]
    response = of(refused, registry).get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    values = dict(line.rsplit(" ", 1) for line in response.text.splitlines() if not line.startswith("#"))
    assert float(values["holdfast_role_since_seconds"]) == pytest.approx(agent.role.since.timestamp())
    assert values["holdfast_region_active"] == "0.0"
    assert values["holdfast_epoch"] == "7.0"
    assert values["holdfast_lease_age_seconds"] == "2.5"
    assert values["holdfast_runs_swept_total"] == "0.0"
    assert values['holdfast_early_release_decisions_total{reason="disabled"}'] == "3.0"
    assert float(values["holdfast_certificate_expires_seconds"]) > 1.7e9


def test_where_patroni_does_not_answer_the_lease_has_no_age(agent: Any, certificate: Path) -> None:
    agent.member = None
    registry = CollectorRegistry()
    registry.register(StatusCollector(lambda: status_of(agent), certificate))  # type: ignore[arg-type]
    assert "lease_age" not in of(refused, registry).get("/metrics").text


def test_a_neighbour_s_metrics_are_handed_on_and_only_who_knows_the_token_gets_it() -> None:
    asked: list[tuple[str, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["accept-encoding"] == "identity"
        asked.append((str(request.url), request.headers.get("dapr-api-token")))
        return httpx.Response(200, text="up 1\n")

    client = of(answer)
    assert client.get("/metrics/daprd-1").text == "up 1\n"
    assert client.get("/metrics/worker-1").text == "up 1\n"
    assert asked == [("http://127.0.0.1:3500/metrics", None), ("http://127.0.0.1:3501/metrics", "dapr-token")]


def test_a_neighbour_that_does_not_answer_is_missing_and_an_unknown_one_is_named() -> None:
    client = of(refused)
    silent = client.get("/metrics/daprd-1")
    assert (silent.status_code, silent.json()["detail"]) == (503, "daprd-1 doesn't tell its metrics: ConnectError")
    unknown = client.get("/metrics/daprd-9")
    assert (unknown.status_code, "daprd-1, worker-1" in unknown.json()["detail"]) == (404, True)
    assert of(lambda _: httpx.Response(401)).get("/metrics/worker-1").status_code == 503


def test_a_database_that_says_nothing_is_missing() -> None:
    assert of(refused).get("/metrics/database").status_code == 503
