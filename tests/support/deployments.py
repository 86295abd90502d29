"""Deployments that are only told of: a manifest, and doors behind which tests put the answers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.doors import Unanswered
from infra.manifest import Manifest


def manifest(directory: Path) -> Manifest:
    """A whole deployment's manifest; nothing of it exists."""

    def region(name: str) -> dict[str, Any]:
        place = directory / f"region-{name}"
        return {
            "site": f"region-{name}",
            "directory": place,
            "api": f"https://127.0.0.1:1/{name}",
            "agent": "https://127.0.0.1:1",
            "patroni": "https://127.0.0.1:1",
            "postgres_port": 1,
            "etcd": "https://127.0.0.1:1",
            "supervisor_socket": place / "supervisor.sock",
            "role_file": place / "data" / "role.json",
            "events_file": place / "data" / "region-agent.jsonl",
            "attempts_dir": place / "data",
            "workers": ["worker-1", "worker-2"],
            "sidecars": ["daprd-1", "daprd-2"],
        }

    def link(source: str, target: str) -> dict[str, str]:
        return {
            "name": f"{source}-{target}.postgres",
            "source": source,
            "target": target,
            "line": "postgres",
            "listen": "127.0.0.1:1",
            "upstream": "127.0.0.1:1",
        }

    return Manifest.model_validate(
        {
            "version": 1,
            "name": "local",
            "directory": directory,
            "ca": directory / "pki" / "root.crt",
            "api_token_file": directory / "secrets" / "api-token",
            "payments_token_file": directory / "secrets" / "payments-token",
            "control_token_file": directory / "secrets" / "control-token",
            "signer": "spiffe://public/ns/default/refund-desk",
            "client_cert": directory / "pki" / "client.crt",
            "client_key": directory / "pki" / "client.key",
            "regions": {"a": region("a"), "b": region("b")},
            "witness": {
                "site": "witness",
                "directory": directory / "witness",
                "observer": "https://127.0.0.1:1",
                "etcd": "https://127.0.0.1:1",
            },
            "payments": {
                "site": "payments",
                "directory": directory / "payments",
                "url": "https://127.0.0.1:1",
            },
            "wan": {
                "site": "wan",
                "directory": directory / "wan",
                "toxiproxy": "http://127.0.0.1:1",
                "links": [link("a", "b"), link("b", "a")],
            },
            "settings": {},
        }
    )


class ToldDoors:
    """Answers as a healthy deployment does whose region `a` is active; a test changes what it says."""

    def __init__(self, described: Manifest) -> None:
        self.manifest = described
        self.agents: dict[str, dict[str, Any] | None] = {
            "a": {"role": "active", "epoch": 3, "since": "2026-01-01T00:00:00Z", "open_runs": 2, "stuck": []},
            "b": {
                "role": "standby",
                "epoch": 3,
                "since": "2026-01-01T00:00:00Z",
                "open_runs": 0,
                "stuck": [],
            },
        }
        self.members: list[dict[str, Any]] = [
            {"name": "a", "role": "leader", "state": "running", "timeline": 3},
            {"name": "b", "role": "sync_standby", "state": "streaming", "timeline": 3, "lag": 0},
        ]
        self.toxics: dict[str, list[dict[str, Any]]] = {}
        self.disabled: set[str] = set()
        self.refusal = ""
        self.silent: set[str] = set()
        self.switched: list[tuple[str, str, str]] = []

    def agent_status(self, region: str) -> Mapping[str, Any]:
        answer = self.agents[region]
        if answer is None:
            raise Unanswered("no answer (connection refused)")
        return copy.deepcopy(answer)

    def patroni(self, region: str) -> Mapping[str, Any]:
        self._heard(f"patroni {region}")
        return {"role": "replica", "state": "running", "timeline": 3, "patroni": {"name": region}}

    def cluster(self, region: str) -> Mapping[str, Any]:
        self._heard(f"patroni {region}")
        return {"members": copy.deepcopy(self.members)}

    def proxies(self) -> Mapping[str, Any]:
        self._heard("wan")
        return {
            link.name: {"enabled": link.name not in self.disabled, "toxics": self.toxics.get(link.name, [])}
            for link in self.manifest.wan.links
        }

    def switch_over(self, region: str, leader: str, candidate: str, timeout: float) -> str:
        if self.refusal:
            raise Unanswered(self.refusal)
        self.switched.append((region, leader, candidate))
        roles = {leader: "standby", candidate: "active"}
        for name, role in roles.items():
            self.agents[name] = {**(self.agents[name] or {}), "role": role, "epoch": 4}
        return "Successfully switched over"

    def _heard(self, name: str) -> None:
        if name in self.silent:
            raise Unanswered("no answer (connection refused)")
