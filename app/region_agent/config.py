"""The region agent's configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator
from serving import ConfigurationFile, Listen, Tls
from serving.tracing import Traces

from region_agent.workloads import KubernetesConfig

Seconds = Annotated[float, Field(gt=0)]


class SidecarProcess(ConfigurationFile):
    """A sidecar and its worker: their names at the supervisor, and the sidecar's ports on the loopback interface."""

    process: str
    worker: str
    grpc_port: int
    http_port: int


class SchedulerProcess(ConfigurationFile):
    """The region's Dapr scheduler, and where it keeps its reminders."""

    process: str
    data_dir: Path
    health_port: int


class Neighbour(ConfigurationFile):
    """A process of the region that tells metrics on the loopback interface; some only to holders of Dapr's token."""

    process: str
    port: int
    takes_token: bool = False


class EarlyReleaseConfig(ConfigurationFile):
    """Whether, and after how much agreed silence, a lost region's lease is released ahead of its TTL."""

    enabled: bool = True
    silence_seconds: Seconds = 3.0


class AgentConfig(ConfigurationFile):
    """One region agent. Addresses of the other region and the witness are WAN links.

    The region's processes are behind a supervisor's socket, or are workloads of a Kubernetes cluster.
    Whoever holds the operator's token may ask for a switchover; without one nobody may. Metrics are told to whoever
    holds their own token, or the agent's.
    """

    region: str
    peer_region: str
    listen: Listen
    tls: Tls
    token_file: Path
    operator_token_file: Path | None = None
    metrics_token_file: Path | None = None
    patroni: str
    peer_patroni: str
    patroni_scope: str
    etcd: str
    etcd_others: list[str]
    peer_etcd: str
    observer: str
    supervisor_socket: Path | None = None
    kubernetes: KubernetesConfig | None = None
    database_dsn_file: Path
    sidecars: list[SidecarProcess]
    also: tuple[str, ...] = ()
    """Processes without a worker of their own that run while the region is active, such as hosts of tools."""
    scheduler: SchedulerProcess
    dapr_token_file: Path
    neighbours: tuple[Neighbour, ...] = ()
    agent: str
    role_file: Path
    events_file: Path
    traces: Traces | None = None
    early_release: EarlyReleaseConfig = EarlyReleaseConfig()
    stuck_after_seconds: Seconds = 60.0
    poll_seconds: Seconds = 0.25

    @model_validator(mode="after")
    def _one_supervision(self) -> Self:
        if (self.supervisor_socket is None) == (self.kubernetes is None):
            raise ValueError(
                "give one of supervisor_socket and kubernetes: who starts and stops the region's processes"
            )
        return self
