"""One region's processes and their configuration; both regions are made alike."""

from __future__ import annotations

import json
import secrets

from infra import processes
from infra.local import dapr, etcd, postgres
from infra.local.layout import SITE_NAMES, Layout, python
from infra.local.site import Process, Site

__all__ = ["other", "site", "worker_names", "write_files"]


def other(region: str) -> str:
    return "b" if region == "a" else "a"


def worker_names(layout: Layout) -> list[str]:
    return [f"worker-{number}" for number in range(1, layout.settings.workers + 1)]


def write_files(layout: Layout, region: str) -> bool:
    """Whether a file changed."""
    name = SITE_NAMES[region]
    changed = layout.prepare_member(region)
    token = layout.config(name, "dapr-api-token")
    if not token.exists():
        changed |= layout.write(token, secrets.token_urlsafe(32) + "\n")
    changed |= postgres.write_files(layout, region)
    changed |= dapr.write_files(layout, region)
    settings, places = layout.settings, _places(layout, region)
    supervision = {"supervisor_socket": str(layout.site(name) / "supervisor.sock")}
    configs = {
        "region-agent": processes.agent(settings, places, supervision),
        "service": processes.service(settings, places),
        **{one.worker: processes.worker(settings, places, one) for one in places.sidecars},
    }
    for file, config in configs.items():
        changed |= layout.write(layout.config(name, f"{file}.json"), json.dumps(config, indent=1))
    return changed


def site(layout: Layout, region: str) -> Site:
    name = SITE_NAMES[region]
    environment = dict(layout.settings.environment)

    def app(process: str, module: str, file: str, **ports: int) -> Process:
        command = python("-m", module, "--config", str(layout.config(name, f"{file}.json")))
        return Process(process, command, environment, stop_seconds=5, ports=ports)

    workers = (app(worker, "service.worker", worker) for worker in worker_names(layout))
    return layout.supervised(
        name,
        (
            etcd.member(layout, region),
            postgres.patroni(layout, region),
            *dapr.processes(layout, region),
            app("region-agent", "region_agent", "region-agent", agent=layout.ports[f"{region}.agent"]),
            app("api", "service", "service", api=layout.ports[f"{region}.api"]),
            *workers,
        ),
    )


def _places(layout: Layout, region: str) -> processes.RegionPlaces:
    name, peer = SITE_NAMES[region], other(region)
    data = layout.data(name)
    ports = layout.ports
    sidecars = [
        processes.SidecarPlace(
            sidecar,
            worker,
            ports[f"{region}.{sidecar}-grpc"],
            ports[f"{region}.{sidecar}-http"],
            ports[f"{region}.{sidecar}-app"],
        )
        for sidecar, worker in zip(dapr.sidecar_names(layout), worker_names(layout), strict=True)
    ]
    return processes.RegionPlaces(
        region=region,
        peer=peer,
        tls=layout.tls_files(name),
        secrets=layout.secrets,
        data=str(data),
        role_file=str(data / "role.json"),
        database_dsn_file=str(layout.config(name, "app.dsn")),
        dapr_token_file=str(layout.config(name, "dapr-api-token")),
        agent_listen=layout.address(f"{region}.agent"),
        api_listen=layout.address(f"{region}.api"),
        agent=layout.url(f"{region}.agent"),
        patroni=layout.url(f"{region}.patroni"),
        etcd=layout.url(f"{region}.etcd"),
        peer_api=layout.url(f"{peer}.api"),
        peer_patroni=layout.link_url(region, peer, "patroni"),
        peer_etcd=layout.link_url(region, peer, "etcd-client"),
        witness_etcd=layout.link_url(region, "w", "etcd-client"),
        observer=layout.link_url(region, "w", "observer"),
        payments=layout.url("payments"),
        provider=layout.url("provider"),
        sidecars=sidecars,
        scheduler_dir=str(data / "scheduler"),
        scheduler_health_port=ports[f"{region}.scheduler-health"],
        measured={process: ports[f"{region}.{process}-metrics"] for process in dapr.measured(layout)},
        measured_workers={one.worker: one.app_port for one in sidecars},
    )
