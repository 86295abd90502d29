"""Every request is counted by the app's own routes, and whoever may read metrics may read nothing else."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from serving import Problem, harden, measure, process_registry

pytestmark = pytest.mark.unit

TOKEN, SCRAPER = "the-token", "the-scraper"


@pytest.fixture
def client() -> TestClient:
    app, pages = FastAPI(), FastAPI()
    harden(app, token=TOKEN, max_body_bytes=1000, guarded_elsewhere="/pages", metrics_token=SCRAPER)
    measure(app, process_registry())

    @app.get("/runs/{run_id}")
    def run(run_id: str) -> str:
        if run_id == "gone":
            raise Problem(404, "not found", "no such run")
        if run_id == "broken":
            raise RuntimeError("no")
        return run_id

    @pages.get("/one")
    def one() -> str:
        return "one"

    app.mount("/pages", pages)
    return TestClient(app, raise_server_exceptions=False, headers={"Authorization": f"Bearer {TOKEN}"})


def scraped(client: TestClient) -> dict[str, float]:
    text = client.get("/metrics", headers={"Authorization": f"Bearer {SCRAPER}"}).raise_for_status().text
    return {
        f"{sample.name} {' '.join(value for _, value in sorted(sample.labels.items()))}".strip(): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_requests_are_counted_by_route_and_not_by_what_callers_write(client: TestClient) -> None:
    for path in ("/runs/1", "/runs/2", "/runs/gone", "/runs/broken", "/pages/one", "/nowhere"):
        client.get(path)
    client.get("/runs/1", headers={"Authorization": "Bearer wrong"})
    client.request("BREW", "/runs/1")
    seen = {name: value for name, value in scraped(client).items() if name.startswith("holdfast_http_requests_total")}
    assert seen == {
        "holdfast_http_requests_total GET /runs/{run_id} 200": 2,
        "holdfast_http_requests_total GET /runs/{run_id} 404": 1,
        "holdfast_http_requests_total GET /runs/{run_id} 500": 1,
        "holdfast_http_requests_total GET /pages/one 200": 1,
        "holdfast_http_requests_total GET none 404": 1,
        "holdfast_http_requests_total GET none 401": 1,
        "holdfast_http_requests_total other /runs/{run_id} 405": 1,
    }


def test_each_request_s_time_is_observed_and_the_process_tells_of_itself(client: TestClient) -> None:
    client.get("/runs/1")
    seen = scraped(client)
    assert seen["holdfast_http_request_seconds_count GET /runs/{run_id}"] == 1
    assert 0 < seen["holdfast_http_request_seconds_sum GET /runs/{run_id}"] < 5
    assert seen["process_resident_memory_bytes"] > 1_000_000


@pytest.mark.parametrize("path", ["/runs/1", "/", "/metricsbeside", "//metrics", "/docs", "/nowhere"])
def test_the_token_for_metrics_opens_nothing_else(client: TestClient, path: str) -> None:
    assert client.get(path, headers={"Authorization": f"Bearer {SCRAPER}"}).status_code == 401


@pytest.mark.parametrize("given", ["", "Bearer ", "Bearer the-scraper2", "Basic the-scraper", SCRAPER])
def test_metrics_are_told_to_holders_of_a_token_alone(client: TestClient, given: str) -> None:
    assert client.get("/metrics", headers={"Authorization": given}).status_code == 401
    assert client.get("/metrics").status_code == 200


def test_without_a_token_for_metrics_an_empty_one_opens_nothing() -> None:
    app = FastAPI()
    harden(app, token=TOKEN, max_body_bytes=1000)
    measure(app, process_registry())
    for given in ("", "Bearer ", "Bearer None"):
        assert TestClient(app).get("/metrics", headers={"Authorization": given}).status_code == 401
