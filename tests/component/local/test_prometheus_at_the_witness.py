"""A real Prometheus at the witness looks at real parts as it is told to, and lets in nobody without a certificate."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from infra.local.layout import Layout
from tests.support import dashboards

pytestmark = pytest.mark.component

PARTS = {
    "wan": {"toxiproxy"},
    "payments": {"payments", "provider"},
    "region-a": {"sentry", "placement", "region-agent", "api", "worker-1"},
    "witness": {"prometheus"},
}
LOOKED_AT = {
    "api a api",
    "dapr-control-plane a placement",
    "outside  payments",
    "outside  provider",
    "prometheus  prometheus",
    "region-agent a region-agent",
    "wan  toxiproxy",
    "worker a worker-1",
}
"""Job, region and instance of what runs here; the rest of the deployment does not."""


@pytest.fixture(scope="module")
def prometheus(start: Callable[[str, set[str]], object], layout: Layout) -> Iterator[httpx.Client]:
    for part, names in PARTS.items():
        start(part, names)
    context = ssl.create_default_context(cafile=str(layout.ca))
    context.load_cert_chain(layout.client.certificate, layout.client.key)
    with httpx.Client(base_url=layout.url("w.prometheus"), verify=context, timeout=5, trust_env=False) as client:
        yield client


def asked(prometheus: httpx.Client, what: str, **parameters: str) -> dict[str, Any]:
    return prometheus.get(f"/api/v1/{what}", params=parameters).raise_for_status().json()["data"]


def up(prometheus: httpx.Client) -> dict[str, str]:
    found = asked(prometheus, "query", query="up")["result"]
    return {
        " ".join(one["metric"].get(name, "") for name in ("job", "region", "instance")): one["value"][1]
        for one in found
    }


def test_every_part_that_runs_is_seen_and_every_other_is_missed(prometheus: httpx.Client) -> None:
    deadline, seen = time.monotonic() + 120, dict[str, str]()
    while {name for name, value in seen.items() if value == "1"} != LOOKED_AT:
        assert time.monotonic() < deadline, f"seen: {seen}; {asked(prometheus, 'targets')['activeTargets']}"
        time.sleep(0.5)
        try:
            seen = up(prometheus)
        except httpx.HTTPError:
            continue
    assert {"patroni a patroni", "etcd w etcd", "daprd b daprd-2", "postgres a database"} <= seen.keys()
    rules = asked(prometheus, "rules")["groups"]
    assert {rule["health"] for group in rules for rule in group["rules"]} <= {"ok", "unknown"}
    assert "Watchdog" in json.dumps(rules)


def test_nobody_gets_in_without_a_certificate_of_the_root(prometheus: httpx.Client, layout: Layout) -> None:
    stranger = ssl.create_default_context(cafile=str(layout.ca))
    with pytest.raises(httpx.TransportError):
        httpx.get(layout.url("w.prometheus"), verify=stranger, timeout=5, trust_env=False)


def test_every_query_of_every_dashboard_is_understood(prometheus: httpx.Client) -> None:
    for query in dashboards.asked():
        answer = prometheus.get("/api/v1/query", params={"query": query.expr})
        assert answer.is_success, (query, answer.text)
