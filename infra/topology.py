"""What a deployment is: the values that every target and every part agrees on.

`infra/config.py` parses stack configuration into `Settings` once; nothing else reads configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

REGIONS = ("a", "b")
"""Region `a` bootstraps the database; after that neither is special."""


@dataclass(frozen=True)
class Lease:
    """Patroni's leader lease, in seconds; `ttl >= 20` and `loop_wait + 2 * retry_timeout <= ttl`."""

    ttl: int = 20
    loop_wait: int = 1
    retry_timeout: int = 3


@dataclass(frozen=True)
class EarlyRelease:
    """Whether a dead region's lease is released ahead of its TTL, and after how much agreed silence."""

    enabled: bool = True
    silence_seconds: float = 3.0


@dataclass(frozen=True)
class Console:
    """The operator's console: how long a session lasts, and what is masked beside what always is."""

    session_minutes: float = 480.0
    mask_keys: tuple[str, ...] = ()
    """Regular expressions: names whose values are not shown."""
    mask_values: tuple[str, ...] = ()
    """Regular expressions: what is not shown wherever it stands."""


@dataclass(frozen=True)
class Prometheus:
    """Whether a Prometheus at the witness looks at every part, and how often."""

    enabled: bool = True
    scrape_seconds: int = 5


@dataclass(frozen=True)
class Settings:
    """One deployment: two regions and a witness. Every field has the default of the `local` stack."""

    name: str
    directory: Path
    workers: int = 2
    lease: Lease = field(default_factory=Lease)
    early_release: EarlyRelease = field(default_factory=EarlyRelease)
    console: Console = field(default_factory=Console)
    prometheus: Prometheus = field(default_factory=Prometheus)
    stuck_after_seconds: float = 60.0
    max_body_size: str = "4Mi"
    max_iterations: int = 25
    kept_runs: int = 256
    """Suspended runs that one worker keeps in memory."""
    agent: str = "refund_desk:hosted"
    """What the regions host, as `package.module:attribute`."""
    model: str = "refund_desk:provided"
    model_latency_seconds: float = 0.3
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Extra environment of the app's processes (workers, API, region agent, payments): a model's API key."""
