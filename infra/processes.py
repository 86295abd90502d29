"""What each process of the app is told, on every target: one function per configuration file.

A target says where things are (`RegionPlaces`); what a process is to do comes from the settings alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from infra.database import SCOPE
from infra.topology import Settings, TlsFiles

__all__ = ["APP_ID", "PROVIDED", "RegionPlaces", "SidecarPlace", "agent", "observer", "payments", "service", "worker"]

APP_ID = "refund-desk"
"""The same in both regions: the keys of workflow state contain it."""

PROVIDED = "refund_desk:provided"
"""The model that the simulated provider is asked for."""

_ANSWER_SECONDS = 0.3
"""What a payment provider takes; a fault in between leaves the caller in doubt."""


@dataclass(frozen=True)
class SidecarPlace:
    """A sidecar and its worker by name, and where the sidecar answers on the loopback interface."""

    process: str
    worker: str
    grpc_port: int
    http_port: int
    app_port: int

    @property
    def ports(self) -> dict[str, object]:
        return {"grpc_port": self.grpc_port, "http_port": self.http_port}


@dataclass(frozen=True)
class RegionPlaces:
    """Where everything is that a region's processes deal with, as they reach it. `peer` is the other region."""

    region: str
    peer: str
    tls: TlsFiles
    secrets: Mapping[str, str]
    """The file of each secret."""
    data: str
    """The directory that outlives a process."""
    role_file: str
    database_dsn_file: str
    dapr_token_file: str
    agent_listen: str
    api_listen: str
    agent: str
    patroni: str
    etcd: str
    peer_api: str
    peer_patroni: str
    peer_etcd: str
    witness_etcd: str
    observer: str
    payments: str
    provider: str
    sidecars: Sequence[SidecarPlace]
    scheduler_dir: str
    scheduler_health_port: int
    measured: Mapping[str, int]
    """Which of Dapr's processes tell metrics on the region agent's loopback interface, and at which port."""
    measured_workers: Mapping[str, int]
    """The same of workers, who tell them only to holders of Dapr's token."""


def agent(settings: Settings, places: RegionPlaces, supervision: Mapping[str, object]) -> dict[str, object]:
    """The region agent's file. `supervision` says who starts and stops the region's processes for it."""
    early = settings.early_release
    return {
        "region": places.region,
        "peer_region": places.peer,
        "listen": places.agent_listen,
        "tls": asdict(places.tls),
        "token_file": places.secrets["api-token"],
        "operator_token_file": places.secrets["console-operator-token"],
        "metrics_token_file": places.secrets["metrics-token"],
        "patroni": places.patroni,
        "peer_patroni": places.peer_patroni,
        "patroni_scope": SCOPE,
        "etcd": places.etcd,
        "etcd_others": [places.witness_etcd],
        "peer_etcd": places.peer_etcd,
        "observer": places.observer,
        **supervision,
        "database_dsn_file": places.database_dsn_file,
        "sidecars": [{"process": one.process, "worker": one.worker, **one.ports} for one in places.sidecars],
        "scheduler": {
            "process": "scheduler",
            "data_dir": places.scheduler_dir,
            "health_port": places.scheduler_health_port,
        },
        "dapr_token_file": places.dapr_token_file,
        "neighbours": _neighbours(places),
        "agent": settings.agent,
        "role_file": places.role_file,
        "events_file": f"{places.data}/region-agent.jsonl",
        "early_release": {"enabled": early.enabled, "silence_seconds": early.silence_seconds},
        "stuck_after_seconds": settings.stuck_after_seconds,
        "poll_seconds": 0.2,
        "traces": _traces(settings, places, "region-agent"),
    }


def _traces(settings: Settings, places: RegionPlaces, process: str) -> dict[str, object] | None:
    """Where the process's spans go; a file is beside the process's other evidence."""
    to = settings.traces.to
    if to == "none":
        return None
    where = {"file": f"{places.data}/spans-{process}.jsonl"} if to == "file" else {"endpoint": to}
    return {**where, "sampling": settings.traces.sampling}


def _neighbours(places: RegionPlaces) -> list[dict[str, object]]:
    """Whose metrics the region agent hands on."""
    return [{"process": process, "port": port} for process, port in places.measured.items()] + [
        {"process": worker, "port": port, "takes_token": True} for worker, port in places.measured_workers.items()
    ]


def worker(settings: Settings, places: RegionPlaces, sidecar: SidecarPlace) -> dict[str, object]:
    """One worker's file."""

    def outside(url: str, token: str) -> dict[str, object]:
        return {"url": url, "ca": places.tls.ca, "token_file": places.secrets[token]}

    return {
        "region": places.region,
        "name": sidecar.worker,
        "agent": settings.agent,
        "model": settings.model,
        "model_latency_seconds": settings.model_latency_seconds,
        "max_iterations": settings.max_iterations,
        "dapr": {**sidecar.ports, "app_port": sidecar.app_port, "token_file": places.dapr_token_file},
        "role_file": places.role_file,
        "attempts_file": f"{places.data}/attempts-{sidecar.worker}.jsonl",
        "payments": outside(places.payments, "payments-token"),
        "model_provider": outside(places.provider, "provider-token") if settings.model == PROVIDED else None,
        "kept_runs": settings.kept_runs,
        "traces": _traces(settings, places, sidecar.worker),
    }


def service(settings: Settings, places: RegionPlaces) -> dict[str, object]:
    """The API's file, its console included."""
    return {
        "region": places.region,
        "listen": places.api_listen,
        "tls": asdict(places.tls),
        "token_file": places.secrets["api-token"],
        "metrics_token_file": places.secrets["metrics-token"],
        "agent": settings.agent,
        "app_id": APP_ID,
        "peers": {places.peer: places.peer_api},
        "role_file": places.role_file,
        "database_dsn_file": places.database_dsn_file,
        "sidecars": [one.ports for one in places.sidecars],
        "dapr_token_file": places.dapr_token_file,
        "max_body_bytes": 1_000_000,
        "rate_per_second": 200,
        "rate_burst": 400,
        "traces": _traces(settings, places, "api"),
        "console": {
            "viewer_token_file": places.secrets["console-viewer-token"],
            "operator_token_file": places.secrets["console-operator-token"],
            "agent": places.agent,
            "session_minutes": settings.console.session_minutes,
            "mask_keys": list(settings.console.mask_keys),
            "mask_values": list(settings.console.mask_values),
            "model": settings.model,
            "max_iterations": settings.max_iterations,
        },
    }


def observer(listen: str, tls: TlsFiles, targets: Mapping[str, tuple[str, str]], events_file: str) -> dict[str, object]:
    """The witness's file. `targets` has each region's Patroni and lease store, as the witness reaches them."""
    return {
        "listen": listen,
        "tls": asdict(tls),
        "targets": {region: {"patroni": patroni, "etcd": etcd} for region, (patroni, etcd) in targets.items()},
        "interval_seconds": 0.2,
        "timeout_seconds": 0.5,
        "events_file": events_file,
    }


def payments(
    settings: Settings, tls: TlsFiles, secrets: Mapping[str, str], listen: Mapping[str, str], ledger: str
) -> dict[str, dict[str, object]]:
    """The files of the world outside both regions, by process: the provider runs only where a model asks it."""
    common: dict[str, object] = {
        "tls": asdict(tls),
        "control_token_file": secrets["control-token"],
        "metrics_token_file": secrets["metrics-token"],
    }
    files: dict[str, dict[str, object]] = {
        "payments": {
            "listen": listen["payments"],
            "token_file": secrets["payments-token"],
            "ledger": ledger,
            "answer_seconds": _ANSWER_SECONDS,
            **common,
        }
    }
    if settings.model == PROVIDED:
        files["provider"] = {
            "listen": listen["provider"],
            "token_file": secrets["provider-token"],
            "latency_seconds": settings.model_latency_seconds,
            **common,
        }
    return files
