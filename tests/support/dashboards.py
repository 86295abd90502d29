"""The dashboards as they are committed, and what a real Prometheus says to their queries."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from dashboards.generate import GENERATED
from infra.manifest import Manifest

RATE_INTERVAL = "20s"
"""What Grafana puts in for `$__rate_interval` where parts are looked at each five seconds."""


@dataclass(frozen=True)
class Asked:
    """One query of a panel."""

    board: str
    panel: str
    expr: str


def committed() -> list[dict[str, Any]]:
    """Every dashboard as Grafana imports it."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(GENERATED.glob("*.json"))]


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Its panels, without the rows that they stand in."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def asked() -> list[Asked]:
    """Every query of every panel."""
    return [
        Asked(board["title"], panel["title"], target["expr"].replace("$__rate_interval", RATE_INTERVAL))
        for board in committed()
        for panel in panels(board)
        for target in panel["targets"]
    ]


class Prometheus:
    """A deployment's Prometheus, asked with the deployment's client certificate."""

    def __init__(self, manifest: Manifest) -> None:
        assert manifest.witness.prometheus is not None
        context = ssl.create_default_context(cafile=str(manifest.ca))
        context.load_cert_chain(manifest.client_cert, manifest.client_key)
        self._http = httpx.Client(base_url=manifest.witness.prometheus, verify=context, timeout=10, trust_env=False)

    def range(self, expr: str, since: float, until: float) -> list[dict[str, Any]]:
        """The series that an expression had between two times, in Unix seconds."""
        return self._get("query_range", query=expr, start=since, end=until, step=5)["result"]

    def now(self, expr: str) -> list[dict[str, Any]]:
        """The series of this moment."""
        return self._get("query", query=expr)["result"]

    def targets(self) -> dict[str, str]:
        """The last error of each target, by job, region and instance; none where it was looked at."""
        return {
            " ".join(one["labels"].get(name, "") for name in ("job", "region", "instance")): one["lastError"]
            for one in self._get("targets")["activeTargets"]
        }

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {one["labels"]["alertname"] for one in self._get("alerts")["alerts"] if one["state"] == "firing"}

    def _get(self, what: str, **parameters: object) -> dict[str, Any]:
        answer = self._http.get(f"/api/v1/{what}", params=parameters)  # type: ignore[arg-type]
        body = answer.json()
        assert body["status"] == "success", body
        return body["data"]
