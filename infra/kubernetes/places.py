"""Where everything of a deployment on Kubernetes is: names, ports and paths, from the configuration alone.

Each cluster has one edge, a single service by which the other clusters reach it. It finds the pods behind each of its
ports by the port's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.processes import PROVIDED, RegionPlaces, SidecarPlace
from infra.topology import APP_SECRETS, Kubernetes, Settings, TlsFiles

__all__ = [
    "CONFIG",
    "CONTROL_PLANE",
    "DATA",
    "EDGES",
    "NODE_PORTS",
    "PORTS",
    "RUN",
    "SECRETS",
    "SITES",
    "TLS",
    "Places",
    "TunnelPorts",
    "worker_names",
]

SITES = {"a": "region-a", "b": "region-b", "w": "witness"}
"""Each cluster as addresses name it, and the name of what is there."""

CONTROL_PLANE = "dapr-system"

PORTS = {
    "etcd-client": 2379,
    "etcd-peer": 2380,
    "postgres": 5432,
    "patroni": 8008,
    "observer": 8081,
    "api": 8443,
    "agent": 8444,
    "payments": 8445,
    "provider": 8446,
    "sidecar-grpc": 50443,
    "sidecar-http": 50444,
}
"""Where each server listens in its pod, by the port's name."""

NODE_PORTS = {
    "etcd-client": 32379,
    "etcd-peer": 32380,
    "postgres": 32432,
    "patroni": 32008,
    "observer": 32081,
    "api": 32443,
    "agent": 32444,
    "payments": 32445,
    "provider": 32446,
}

_REGION_EDGE = ("etcd-client", "etcd-peer", "postgres", "patroni", "api", "agent")
EDGES = {"a": _REGION_EDGE, "b": _REGION_EDGE, "w": ("etcd-client", "etcd-peer", "observer", "payments", "provider")}

DATA, RUN = "/var/lib/holdfast", "/run/holdfast"
"""What outlives a pod, and what does not."""

CONFIG, SECRETS = "/etc/holdfast/config", "/etc/holdfast/secrets"
TLS = TlsFiles("/etc/holdfast/tls/ca.crt", "/etc/holdfast/tls/tls.crt", "/etc/holdfast/tls/tls.key")

_DAPR_GRPC, _DAPR_HTTP, _APP = 50001, 3500, 6001


def worker_names(settings: Settings) -> list[str]:
    """The pods of the workers, which are also their names."""
    return [f"worker-{number}" for number in range(1, settings.workers + 1)]


@dataclass(frozen=True)
class TunnelPorts:
    """Where a pod without a sidecar reaches a worker's, on its own loopback interface."""

    worker: str
    grpc: int
    http: int


@dataclass(frozen=True)
class Places:
    """One cluster's view of the deployment."""

    settings: Settings
    kubernetes: Kubernetes
    where: str

    @property
    def namespace(self) -> str:
        return self.kubernetes.namespace

    @property
    def peer(self) -> str:
        return "b" if self.where == "a" else "a"

    @property
    def edge(self) -> Sequence[str]:
        """The names of the ports by which others reach this cluster."""
        without = () if self.where != "w" or self.settings.model == PROVIDED else ("provider",)
        return [name for name in EDGES[self.where] if name not in without]

    def inside(self, service: str) -> str:
        """A service's host within its cluster."""
        return f"{service}.{self.namespace}.svc"

    def outside(self, where: str, port: str) -> str:
        """`host:port` of a port of another cluster's edge."""
        ports = NODE_PORTS if self.kubernetes.exposure == "NodePort" else PORTS
        return f"{self.kubernetes.address(where)}:{ports[port]}"

    @property
    def hosts(self) -> list[str]:
        """Every host under which this cluster's servers are known: what their certificate is for."""
        here = ("lease-store", "observer", "payments") if self.where == "w" else self._region_services
        return [self.kubernetes.address(self.where), *(self.inside(service) for service in here)]

    @property
    def _region_services(self) -> list[str]:
        return ["lease-store", "database", "region-agent", "api", *worker_names(self.settings)]

    @property
    def tunnels(self) -> list[TunnelPorts]:
        """A port for each worker's sidecar, in pods that have none of their own."""
        return [
            TunnelPorts(worker, 50100 + number, 50200 + number)
            for number, worker in enumerate(worker_names(self.settings), start=1)
        ]

    def as_worker(self) -> RegionPlaces:
        """As a worker sees its region: its sidecar is in its own pod."""
        own = [SidecarPlace(_sidecar(name), name, _DAPR_GRPC, _DAPR_HTTP, _APP) for name in worker_names(self.settings)]
        return self._region(RUN, own)

    def as_agent(self) -> RegionPlaces:
        """As the region agent sees it, which keeps the role."""
        return self._region(DATA, self._through_tunnels())

    def as_api(self) -> RegionPlaces:
        """As the API sees it."""
        return self._region(RUN, self._through_tunnels())

    def _through_tunnels(self) -> list[SidecarPlace]:
        return [SidecarPlace(_sidecar(one.worker), one.worker, one.grpc, one.http, _APP) for one in self.tunnels]

    def _region(self, data: str, sidecars: Sequence[SidecarPlace]) -> RegionPlaces:
        def https(address: str) -> str:
            return f"https://{address}"

        def own(service: str, port: str) -> str:
            return https(f"{self.inside(service)}:{PORTS[port]}")

        return RegionPlaces(
            region=self.where,
            peer=self.peer,
            tls=TLS,
            secrets={name: f"{SECRETS}/{name}" for name in APP_SECRETS},
            data=data,
            role_file=f"{data}/role.json",
            database_dsn_file=f"{SECRETS}/app.dsn",
            dapr_token_file=f"{SECRETS}/dapr-api-token",
            agent_listen=f"0.0.0.0:{PORTS['agent']}",
            api_listen=f"0.0.0.0:{PORTS['api']}",
            agent=own("region-agent", "agent"),
            patroni=own("database", "patroni"),
            etcd=own("lease-store", "etcd-client"),
            peer_api=https(self.outside(self.peer, "api")),
            peer_patroni=https(self.outside(self.peer, "patroni")),
            peer_etcd=https(self.outside(self.peer, "etcd-client")),
            witness_etcd=https(self.outside("w", "etcd-client")),
            observer=https(self.outside("w", "observer")),
            payments=https(self.outside("w", "payments")),
            provider=https(self.outside("w", "provider")),
            sidecars=sidecars,
            scheduler_dir=f"{data}/scheduler",
            scheduler_health_port=8080,
            # Each has a pod of its own, on another loopback interface than the region agent's.
            measured={},
            measured_workers={},
        )


def _sidecar(worker: str) -> str:
    return worker.replace("worker", "daprd")
