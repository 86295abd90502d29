"""One region's processes and their configuration; both regions are made alike."""

from __future__ import annotations

import json
import secrets

from infra.local import dapr, etcd, payments, postgres
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
    configs = {"region-agent": _agent(layout, region), "service": _service(layout, region)}
    for number, worker in enumerate(worker_names(layout), start=1):
        configs[worker] = _worker(layout, region, worker, number)
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


def _sidecars(layout: Layout, region: str) -> list[dict[str, object]]:
    return [
        {
            "grpc_port": layout.ports[f"{region}.{sidecar}-grpc"],
            "http_port": layout.ports[f"{region}.{sidecar}-http"],
        }
        for sidecar in dapr.sidecar_names(layout)
    ]


def _neighbours(layout: Layout, region: str) -> list[dict[str, object]]:
    """Who tells metrics on the loopback interface, for the agent to hand on."""
    ports = {process: layout.ports[f"{region}.{process}-metrics"] for process in dapr.measured(layout)}
    workers = {
        worker: layout.ports[f"{region}.daprd-{number}-app"]
        for number, worker in enumerate(worker_names(layout), start=1)
    }
    return [{"process": process, "port": port} for process, port in ports.items()] + [
        {"process": worker, "port": port, "takes_token": True} for worker, port in workers.items()
    ]


def _agent(layout: Layout, region: str) -> dict[str, object]:
    name, peer = SITE_NAMES[region], other(region)
    data = layout.data(name)
    sidecars = zip(dapr.sidecar_names(layout), worker_names(layout), _sidecars(layout, region), strict=True)
    early = layout.settings.early_release
    return {
        "region": region,
        "peer_region": peer,
        "listen": layout.address(f"{region}.agent"),
        "tls": layout.tls_files(name),
        "token_file": str(layout.secret("api-token")),
        "operator_token_file": str(layout.secret("console-operator-token")),
        "metrics_token_file": str(layout.secret("metrics-token")),
        "patroni": layout.url(f"{region}.patroni"),
        "peer_patroni": layout.link_url(region, peer, "patroni"),
        "patroni_scope": postgres.SCOPE,
        "etcd": layout.url(f"{region}.etcd"),
        "etcd_others": [layout.link_url(region, "w", "etcd-client")],
        "peer_etcd": layout.link_url(region, peer, "etcd-client"),
        "observer": layout.link_url(region, "w", "observer"),
        "supervisor_socket": str(layout.site(name) / "supervisor.sock"),
        "database_dsn_file": str(layout.config(name, "app.dsn")),
        "sidecars": [{"process": process, "worker": worker, **ports} for process, worker, ports in sidecars],
        "scheduler": {
            "process": "scheduler",
            "data_dir": str(data / "scheduler"),
            "health_port": layout.ports[f"{region}.scheduler-health"],
        },
        "dapr_token_file": str(layout.config(name, "dapr-api-token")),
        "neighbours": _neighbours(layout, region),
        "agent": layout.settings.agent,
        "role_file": str(data / "role.json"),
        "events_file": str(data / "region-agent.jsonl"),
        "early_release": {"enabled": early.enabled, "silence_seconds": early.silence_seconds},
        "stuck_after_seconds": layout.settings.stuck_after_seconds,
        "poll_seconds": 0.2,
    }


def _worker(layout: Layout, region: str, worker: str, number: int) -> dict[str, object]:
    name, settings = SITE_NAMES[region], layout.settings
    data = layout.data(name)
    return {
        "region": region,
        "name": worker,
        "agent": settings.agent,
        "model": settings.model,
        "model_latency_seconds": settings.model_latency_seconds,
        "max_iterations": settings.max_iterations,
        "dapr": {
            **_sidecars(layout, region)[number - 1],
            "app_port": layout.ports[f"{region}.daprd-{number}-app"],
            "token_file": str(layout.config(name, "dapr-api-token")),
        },
        "role_file": str(data / "role.json"),
        "attempts_file": str(data / f"attempts-{worker}.jsonl"),
        "payments": {
            "url": layout.url("payments"),
            "ca": str(layout.ca),
            "token_file": str(layout.secret("payments-token")),
        },
        "model_provider": {
            "url": layout.url("provider"),
            "ca": str(layout.ca),
            "token_file": str(layout.secret("provider-token")),
        }
        if payments.has_provider(layout)
        else None,
        "kept_runs": settings.kept_runs,
    }


def _service(layout: Layout, region: str) -> dict[str, object]:
    name, peer, settings = SITE_NAMES[region], other(region), layout.settings
    data = layout.data(name)
    return {
        "region": region,
        "listen": layout.address(f"{region}.api"),
        "tls": layout.tls_files(name),
        "token_file": str(layout.secret("api-token")),
        "metrics_token_file": str(layout.secret("metrics-token")),
        "agent": layout.settings.agent,
        "app_id": dapr.APP_ID,
        "peers": {peer: layout.url(f"{peer}.api")},
        "role_file": str(data / "role.json"),
        "database_dsn_file": str(layout.config(name, "app.dsn")),
        "sidecars": _sidecars(layout, region),
        "dapr_token_file": str(layout.config(name, "dapr-api-token")),
        "max_body_bytes": 1_000_000,
        "rate_per_second": 200,
        "rate_burst": 400,
        "console": {
            "viewer_token_file": str(layout.secret("console-viewer-token")),
            "operator_token_file": str(layout.secret("console-operator-token")),
            "agent": layout.url(f"{region}.agent"),
            "session_minutes": settings.console.session_minutes,
            "mask_keys": list(settings.console.mask_keys),
            "mask_values": list(settings.console.mask_values),
            "model": settings.model,
            "max_iterations": settings.max_iterations,
        },
    }
