"""The active region alone takes runs, the standby names it, and every caller is authenticated and bounded."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from service.api import build_app

from tests.support.regions import PEER, TOKEN, MemoryIndex, MemoryWorkflows, region, write_role
from tests.unit.service.answers import problem, start

pytestmark = pytest.mark.unit

HERE = "https://region-a.example:8443"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
PATHS = [
    ("POST", "/v1/runs"),
    ("GET", "/v1/runs"),
    ("GET", "/v1/runs/run-1"),
    ("GET", "/v1/runs/run-1/history"),
    ("GET", "/v1/runs/run-1/steps"),
    ("GET", "/v1/runs/run-1/export"),
    ("POST", "/v1/runs/run-1/rerun"),
    ("GET", "/v1/runs/run-1/events"),
    ("POST", "/v1/runs/run-1/cancel"),
]
BODY = {"run_id": "run-1", "input": {"ticket_id": "T-1", "customer": "Ada", "body": "My lamp is broken"}}


class TestRole:
    @pytest.mark.parametrize(("method", "path"), PATHS)
    def test_a_standby_names_the_active_region_and_touches_nothing(
        self, client: TestClient, role_file: Path, asked: list[str], method: str, path: str
    ) -> None:
        write_role(role_file, "standby")
        response = client.request(method, path, json=BODY)
        assert problem(response, 503) == {
            "type": "about:blank",
            "title": "not the active region",
            "status": 503,
            "detail": "region a is standby; ask the active region",
            "active_url": PEER,
        }
        assert response.headers["retry-after"] == "1"
        assert asked == []

    @pytest.mark.parametrize(("method", "path"), PATHS)
    def test_a_region_that_is_becoming_active_says_so(
        self, client: TestClient, role_file: Path, asked: list[str], method: str, path: str
    ) -> None:
        write_role(role_file, "activating")
        response = client.request(method, path, json=BODY)
        assert problem(response, 503)["title"] == "activating"
        assert response.headers["retry-after"] == "1"
        assert asked == []

    def test_a_region_whose_role_nobody_has_said_takes_no_run(self, client: TestClient, role_file: Path) -> None:
        role_file.unlink()
        assert problem(start(client), 503)["active_url"] == PEER

    def test_a_region_without_a_peer_names_none(self, tmp_path: Path, index: MemoryIndex, role_file: Path) -> None:
        write_role(role_file, "standby")
        alone = TestClient(build_app(region(tmp_path, index, peers={}), TOKEN), headers=AUTHORIZED)
        assert problem(start(alone), 503)["active_url"] is None

    def test_a_region_takes_runs_as_soon_as_it_is_active(self, client: TestClient, role_file: Path) -> None:
        write_role(role_file, "standby", epoch=3)
        assert start(client).status_code == 503
        write_role(role_file, "active", epoch=4)
        assert start(client).status_code == 202

    @pytest.mark.parametrize(
        ("role", "active_url"),
        [("active", HERE), ("activating", HERE), ("standby", PEER)],
    )
    def test_anybody_with_the_token_is_told_the_role(
        self, client: TestClient, role_file: Path, role: str, active_url: str
    ) -> None:
        write_role(role_file, role, epoch=7)
        answer = client.get("/v1/role").json()
        assert answer == {"region": "a", "role": role, "epoch": 7, "active_url": active_url}

    def test_an_unknown_role_is_told_too(self, client: TestClient, role_file: Path) -> None:
        role_file.unlink()
        assert client.get("/v1/role").json() == {"region": "a", "role": "unknown", "epoch": None, "active_url": None}


class TestHealth:
    def test_health_needs_no_token_and_no_role(self, client: TestClient, role_file: Path) -> None:
        role_file.unlink()
        response = client.get("/healthz", headers={"Authorization": ""})
        assert (response.status_code, response.json()) == (200, {"status": "ok"})

    @pytest.mark.parametrize("role", ["active", "activating", "standby"])
    def test_a_region_that_knows_its_role_is_ready(self, client: TestClient, role_file: Path, role: str) -> None:
        write_role(role_file, role)
        assert client.get("/readyz").json() == {"status": "ready", "role": role}

    def test_a_region_that_knows_no_role_is_not_ready(self, client: TestClient, role_file: Path) -> None:
        role_file.unlink()
        assert "has not said which role" in problem(client.get("/readyz"), 503)["detail"]

    @pytest.mark.parametrize(("role", "status"), [("active", 503), ("activating", 503), ("standby", 200)])
    def test_only_a_standby_is_ready_on_a_database_that_can_not_be_written(
        self, client: TestClient, index: MemoryIndex, role_file: Path, role: str, status: int
    ) -> None:
        index.unavailable = {"is_writable"}
        write_role(role_file, role)
        assert client.get("/readyz").status_code == status


class TestCallers:
    @pytest.mark.parametrize("authorization", ["", "Bearer wrong", f"Basic {TOKEN}", TOKEN])
    @pytest.mark.parametrize(
        ("method", "path"), [*PATHS, ("GET", "/v1/role"), ("GET", "/readyz"), ("GET", "/openapi.json"), ("GET", "/no")]
    )
    def test_without_the_token_nothing_is_told(
        self, client: TestClient, asked: list[str], authorization: str, method: str, path: str
    ) -> None:
        response = client.request(method, path, headers={"Authorization": authorization}, json=BODY)
        problem(response, 401)
        assert response.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in response.text
        assert asked == []

    def test_a_body_of_ten_megabytes_is_refused(self, client: TestClient, asked: list[str]) -> None:
        problem(start(client, body="x" * 10_000_000), 413)
        assert asked == []

    def test_more_starts_than_the_region_allows_are_told_when_to_come_back(
        self, tmp_path: Path, index: MemoryIndex, workflows: MemoryWorkflows, role_file: Path
    ) -> None:
        limited = region(tmp_path, index, workflows, rate_per_second=0.5, rate_burst=2)
        client = TestClient(build_app(limited, TOKEN), headers=AUTHORIZED)
        assert [start(client, f"run-{number}").status_code for number in range(2)] == [202, 202]
        response = start(client, "run-2")
        problem(response, 429)
        assert 1 <= int(response.headers["retry-after"]) <= 3
        assert set(index.runs) == {"run-0", "run-1"}

    def test_a_method_that_a_path_does_not_have_is_refused(self, client: TestClient) -> None:
        assert problem(client.delete("/v1/runs/run-1"), 405)


def test_the_api_describes_itself(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert described["info"]["title"] == "Holdfast"
    assert set(described["paths"]) == {
        "/healthz",
        "/readyz",
        "/v1/role",
        "/v1/runs",
        "/v1/runs/{run_id}",
        "/v1/runs/{run_id}/history",
        "/v1/runs/{run_id}/steps",
        "/v1/runs/{run_id}/export",
        "/v1/runs/{run_id}/rerun",
        "/v1/runs/{run_id}/approvals",
        "/v1/runs/{run_id}/events",
        "/v1/runs/{run_id}/cancel",
    }
    assert set(described["paths"]["/v1/runs"]["post"]["responses"]) == {"200", "202", "409", "422", "503"}
    names = described["components"]["schemas"]["StartRequest"]["properties"]
    assert set(names) == {"run_id", "input"}
