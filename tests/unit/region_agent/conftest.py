"""A region agent's configuration in a folder of its own, and an event log that can be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from region_agent.config import AgentConfig
from region_agent.events import EventLog


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    tls = {"cert": tmp_path / "crt", "key": tmp_path / "key", "ca": tmp_path / "ca"}
    secret = tmp_path / "token"
    return AgentConfig.model_validate(
        {
            "region": "b",
            "peer_region": "a",
            "listen": "127.0.0.1:1",
            "tls": tls,
            "token_file": secret,
            "patroni": "https://own",
            "peer_patroni": "https://peer",
            "patroni_scope": "holdfast",
            "etcd": "https://etcd-own",
            "etcd_others": ["https://etcd-witness"],
            "peer_etcd": "https://etcd-peer",
            "observer": "https://observer",
            "supervisor_socket": tmp_path / "supervisor.sock",
            "database_dsn_file": tmp_path / "dsn",
            "sidecars": [
                {"process": f"daprd-{number}", "worker": f"worker-{number}", "grpc_port": 1, "http_port": 100 + number}
                for number in (1, 2)
            ],
            "scheduler": {"process": "scheduler", "data_dir": tmp_path / "scheduler", "health_port": 1},
            "dapr_token_file": secret,
            "agent": "refund_desk:hosted",
            "role_file": tmp_path / "role.json",
            "events_file": tmp_path / "events.jsonl",
            "poll_seconds": 0.01,
        }
    )


@pytest.fixture
def events(config: AgentConfig) -> EventLog:
    return EventLog(config.events_file)


@pytest.fixture
def told(config: AgentConfig) -> Callable[[], list[dict[str, Any]]]:
    """What was recorded so far."""

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in config.events_file.read_text().splitlines()]

    return read
