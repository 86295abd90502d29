"""An operator may have the lease handed over, and only where nothing would be lost by it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from region_agent.config import AgentConfig
from region_agent.events import EventLog
from region_agent.role import RoleFile
from region_agent.status import build_app

from tests.unit.region_agent.stand_ins import client_of
from tests.unit.region_agent.test_agent_interface import TOKEN, nothing
from tests.unit.region_agent.test_following_the_database import Told

pytestmark = pytest.mark.unit

OPERATOR = "the-operator"


class Patroni:
    """Tells of an active region b and a standby a; a test changes what it says."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = [
            {"name": "b", "role": "leader", "state": "running", "timeline": 7, "host": "x"},
            {"name": "a", "role": "sync_standby", "state": "streaming", "timeline": 7, "lag": 0},
        ]
        self.config: dict[str, Any] = {"ttl": 20, "loop_wait": 1}
        self.asked: list[bytes] = []
        self.silent = False
        self.held: asyncio.Event | None = None

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.silent:
            raise httpx.ConnectError("refused")
        if request.url.path == "/switchover":
            self.asked.append(request.content)
            if self.held is not None:
                await self.held.wait()
            return httpx.Response(200, text="Successfully switched over")
        answer = {"/cluster": {"members": self.nodes}, "/config": self.config}[request.url.path]
        return httpx.Response(200, json=answer)


@pytest.fixture
def patroni() -> Patroni:
    return Patroni()


@pytest.fixture
def client(config: AgentConfig, events: EventLog, patroni: Patroni) -> Any:
    agent: Any = SimpleNamespace(
        config=config, local=client_of(patroni), events=events, role=RoleFile(config.role_file, "b").write("active", 7)
    )
    app = build_app(agent, TOKEN, nothing, OPERATOR)
    with TestClient(app, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        client.app_state = agent
        yield client


def ask(client: TestClient, token: str = OPERATOR) -> httpx.Response:
    return client.post("/switchover", headers={"Holdfast-Operator": token})


def test_the_cluster_is_what_patroni_knows_of_nodes_and_lease(client: TestClient, patroni: Patroni) -> None:
    told = client.get("/cluster").json()
    assert (told["holder"], told["lease"]) == ("b", {"ttl": 20, "loop_wait": 1})
    assert [(one["name"], one["role"], one["lag"]) for one in told["nodes"]] == [
        ("b", "leader", None),
        ("a", "sync_standby", 0),
    ]
    patroni.config, patroni.nodes = {}, patroni.nodes[1:]
    assert (client.get("/cluster").json()["lease"], client.get("/cluster").json()["holder"]) == (None, None)
    patroni.silent = True
    assert client.get("/cluster").status_code == 503


def test_the_lease_is_handed_over_and_what_patroni_said_is_kept(
    client: TestClient, patroni: Patroni, told: Told
) -> None:
    response = ask(client)
    assert (response.status_code, response.json()) == (202, {"candidate": "a"})
    while len(told()) < 2:
        client.get("/healthz")
    assert patroni.asked == [b'{"leader":"b","candidate":"a"}']
    assert [(one["event"], one.get("answer")) for one in told()] == [
        ("switchover-asked", None),
        ("switchover-answered", "200: Successfully switched over"),
    ]


def test_a_patroni_that_does_not_answer_is_kept_too(client: TestClient, patroni: Patroni, told: Told) -> None:
    async def gone(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/switchover":
            raise httpx.ReadTimeout("late")
        return await patroni(request)

    client.app_state.local._transport = httpx.MockTransport(gone)  # type: ignore[attr-defined]
    assert ask(client).status_code == 202
    while len(told()) < 2:
        client.get("/healthz")
    assert told()[-1]["answer"] == "ReadTimeout"


@pytest.mark.parametrize("token", ["", "wrong", TOKEN])
def test_only_an_operator_may_ask(client: TestClient, patroni: Patroni, token: str) -> None:
    assert ask(client, token).status_code == 403
    assert patroni.asked == []


def test_without_an_operator_s_token_nobody_may_ask(config: AgentConfig) -> None:
    agent: Any = SimpleNamespace(config=config, local=None, events=None, role=None)
    app = build_app(agent, TOKEN, nothing)
    with TestClient(app, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        assert ask(client, "").status_code == 403


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"role": "replica"}, 409, "it is replica, streaming"),
        ({"state": "starting"}, 409, "it is sync_standby, starting"),
        ({"name": "c"}, 409, "it is not there"),
    ],
)
def test_a_standby_that_lacks_something_takes_nothing_over(
    client: TestClient, patroni: Patroni, change: dict[str, str], status: int, told: str
) -> None:
    patroni.nodes[1] |= change
    response = ask(client)
    assert (response.status_code, told in response.json()["detail"]) == (status, True)
    assert patroni.asked == []


def test_a_region_that_is_not_active_has_nothing_to_hand_over(client: TestClient, patroni: Patroni) -> None:
    patroni.nodes[0]["role"] = "replica"
    assert ask(client).status_code == 503
    client.app_state.role = None  # type: ignore[attr-defined]
    assert ask(client).status_code == 409
    assert patroni.asked == []


def test_one_handing_over_is_enough(client: TestClient, patroni: Patroni) -> None:
    patroni.held = asyncio.Event()
    assert ask(client).status_code == 202
    assert ask(client).json()["title"] == "under way"
    patroni.held.set()
