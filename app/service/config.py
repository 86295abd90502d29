"""The API's configuration file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from serving import ConfigurationFile, Listen, Tls
from serving.tracing import Traces


def _compiles(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is no regular expression: {error}") from error
    return value


Expression = Annotated[str, AfterValidator(_compiles)]
"""A regular expression."""


class SidecarPorts(ConfigurationFile):
    """Where one of the region's sidecars listens on the loopback interface."""

    grpc_port: int
    http_port: int


class ConsoleConfig(ConfigurationFile):
    """The console. Each token stands for a role; `agent` is the region agent, the only one that it asks.

    `mask_keys` and `mask_values` are regular expressions: names whose values are not shown, and what is not shown
    wherever it stands, beside the rules that always hold. `model` and `max_iterations` are the workers', for replays.
    """

    viewer_token_file: Path
    operator_token_file: Path
    agent: str
    session_minutes: Annotated[float, Field(gt=0)] = 480.0
    idle_minutes: Annotated[float, Field(gt=0)] = 60.0
    mask_keys: tuple[Expression, ...] = ()
    mask_values: tuple[Expression, ...] = ()
    model: str = ""
    max_iterations: int = 25


class ServiceConfig(ConfigurationFile):
    """One region's API. `app_id` is its sidecars', `peers` are the other regions' addresses.

    `rate_per_second` bounds all callers together. Without `console` there is none. Metrics are told to whoever holds
    their own token, or the API's.
    """

    region: str
    listen: Listen
    tls: Tls
    token_file: Path
    metrics_token_file: Path | None = None
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
    console: ConsoleConfig | None = None
    traces: Traces | None = None
