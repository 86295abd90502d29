"""What a deployment is: the values that every target and every part agrees on.

`infra/config.py` parses stack configuration into `Settings` once; nothing else reads configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

REGIONS = ("a", "b")
"""Region `a` bootstraps the database; after that neither is special."""

APP_SECRETS = (
    "api-token",
    "payments-token",
    "console-viewer-token",
    "console-operator-token",
    "provider-token",
    "control-token",
    "metrics-token",
)
"""What the app's processes prove themselves by, to each other and to people."""

DATABASE_SECRETS = ("superuser", "replication", "rewind", "app")
"""The database's roles, each with its password."""


@dataclass(frozen=True)
class TlsFiles:
    """Where a process finds the root, its own certificate and its key."""

    ca: str
    cert: str
    key: str


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
class Traces:
    """Where spans of runs and failovers go, and of which share of the runs."""

    to: str = "none"
    """`none`, `file`, or the address of an OTLP receiver over HTTP."""
    sampling: float = 1.0


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
    traces: Traces = field(default_factory=Traces)
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


@dataclass(frozen=True)
class Kubernetes:
    """Where a deployment stands on Kubernetes: three clusters, of which the third holds what is outside both regions.

    `address_*` is the host under which the others reach a cluster. Every field has its configuration key's name.
    """

    context_a: str = "kind-holdfast-a"
    context_b: str = "kind-holdfast-b"
    context_witness: str = "kind-holdfast-witness"
    address_a: str = ""
    address_b: str = ""
    address_witness: str = ""
    exposure: str = "NodePort"
    allowed_ranges: tuple[str, ...] = ("0.0.0.0/0",)
    """The networks from which a cluster's edge may be dialled."""
    edge_annotations: tuple[str, ...] = ()
    """`name=value` for the edge, such as what makes a load balancer an internal one."""
    namespace: str = "holdfast"
    image: str = "localhost/holdfast:0.1.0"
    etcd_image: str = "registry.k8s.io/etcd:3.6.5-0"
    dapr_chart: str = "dapr"
    """The chart's name in Dapr's repository, or its directory on this machine."""
    dapr_registry: str = "ghcr.io/dapr"
    highly_available: bool = True
    storage_class: str = ""
    volume_size: str = "10Gi"
    retention: str = ""
    """How long a run's workflow is kept after its end; nothing: for ever."""
    trace_endpoint: str = ""
    trace_sampling: float = 0.0
    tool_host: str = ""
    """A Python module that hosts tools under an app id of its own."""
    tool_activities: tuple[str, ...] = ()
    """The tools' activities that the agents may call."""

    def context(self, where: str) -> str:
        return {"a": self.context_a, "b": self.context_b, "w": self.context_witness}[where]

    def address(self, where: str) -> str:
        return {"a": self.address_a, "b": self.address_b, "w": self.address_witness}[where]
