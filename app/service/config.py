"""The API's configuration file."""

from __future__ import annotations

from pathlib import Path

from serving import ConfigurationFile, Listen, Tls


class SidecarPorts(ConfigurationFile):
    """Where one of the region's sidecars listens on the loopback interface."""

    grpc_port: int
    http_port: int


class ServiceConfig(ConfigurationFile):
    """One region's API. `app_id` is its sidecars', `peers` are the other regions' addresses.

    `rate_per_second` bounds all callers together.
    """

    region: str
    listen: Listen
    tls: Tls
    token_file: Path
    agent: str
    app_id: str
    peers: dict[str, str]
    role_file: Path
    database_dsn_file: Path
    sidecars: list[SidecarPorts]
    dapr_token_file: Path
    max_body_bytes: int = 1_000_000
    rate_per_second: float = 200.0
    rate_burst: int = 400
