"""What clients send to the API, and what they check of its answers."""

from __future__ import annotations

from typing import Any

import httpx
from fastapi.testclient import TestClient

TICKET: dict[str, object] = {"ticket_id": "T-1", "customer": "Ada", "body": "My lamp is broken"}


def start(client: TestClient, run_id: str = "run-1", **change: object) -> httpx.Response:
    """Start a run on a ticket, with `change` in it."""
    return client.post("/v1/runs", json={"run_id": run_id, "input": TICKET | change})


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The problem details of an answer that is one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    return body
