"""A Prometheus at the witness: outside both regions, so it tells of the loss of either.

It reaches a region's parts over the WAN's links, as the observer does, and Dapr's processes through the region agent,
since they tell their metrics on the region's loopback interface alone. Its own interface takes a certificate of the
root. With it go the rules for alerts in `dashboards/rules`.
"""

from __future__ import annotations

from importlib.resources import files

from infra.local import dapr, payments
from infra.local.files import as_yaml
from infra.local.layout import SITE_NAMES, Layout
from infra.local.site import Process
from infra.toolchain import require
from infra.topology import REGIONS

__all__ = ["process", "write_files"]

_SITE = SITE_NAMES["w"]
_RETENTION = ("7d", "512MB")
_SERIES = 20_000
"""What one part may tell at most; more is a fault of that part, and is refused."""
_UNREAD = "(dapr_grpc|dapr_http|etcd_debugging|go|grpc|prometheus_http|promhttp)_.*"
"""What nobody looks at, and is much."""


def write_files(layout: Layout) -> bool:
    """Whether a file changed."""
    changed = layout.write(layout.config(_SITE, "prometheus.yaml"), as_yaml(_configuration(layout)))
    changed |= layout.write(layout.config(_SITE, "prometheus-web.yaml"), as_yaml(_web(layout)))
    for name, text in _rules().items():
        changed |= layout.write(layout.config(_SITE, name), text)
    return changed


def process(layout: Layout) -> Process:
    program = require(["prometheus"])["prometheus"]
    retention, size = _RETENTION
    options = {
        "config.file": layout.config(_SITE, "prometheus.yaml"),
        "web.config.file": layout.config(_SITE, "prometheus-web.yaml"),
        "web.listen-address": layout.address("w.prometheus"),
        "storage.tsdb.path": layout.data(_SITE) / "prometheus",
        "storage.tsdb.retention.time": retention,
        "storage.tsdb.retention.size": size,
        "log.level": "warn",
        "log.format": "json",
    }
    return Process(
        "prometheus",
        # A look may come late; what is looked at must not.
        ("nice", "-n", "10", str(program), *(f"--{option}={value}" for option, value in options.items())),
        {"GOMAXPROCS": "1"},
        stop_seconds=5,
        ports={"prometheus": layout.ports["w.prometheus"]},
    )


def _rules() -> dict[str, str]:
    """The files of rules, by the names that they have beside the configuration."""
    found = sorted(files("dashboards").joinpath("rules").iterdir(), key=lambda one: one.name)
    return {f"rules-{one.name}": one.read_text(encoding="utf-8") for one in found if one.name.endswith(".yaml")}


def _configuration(layout: Layout) -> dict[str, object]:
    seconds = layout.settings.prometheus.scrape_seconds
    ca = {"ca_file": str(layout.ca)}
    own = layout.tls(_SITE)
    as_client = {**ca, "cert_file": str(own.certificate), "key_file": str(own.key)}
    with_token = {
        "scheme": "https",
        "tls_config": ca,
        "authorization": {"credentials_file": str(layout.secret("metrics-token"))},
    }
    with_certificate = {"scheme": "https", "tls_config": as_client}
    regions = [(region, SITE_NAMES[region]) for region in REGIONS]
    agents = {region: layout.link("w", region, "metrics") for region, _ in regions}

    def job(name: str, targets: list[dict[str, object]], how: dict[str, object]) -> dict[str, object]:
        return {"job_name": name, **how, "static_configs": targets}

    def through_agents(processes: list[str]) -> list[dict[str, object]]:
        return [
            _target(agents[region], process, region=region, __metrics_path__=f"/metrics/{process}")
            for region, _ in regions
            for process in processes
        ]

    etcd = [_target(layout.link("w", region, "etcd-client"), "etcd", region=region) for region, _ in regions]
    outside = ["payments", *(["provider"] if payments.has_provider(layout) else [])]
    workers = range(1, layout.settings.workers + 1)
    return {
        "global": {
            "scrape_interval": f"{seconds}s",
            "scrape_timeout": f"{seconds - 1}s",
            "evaluation_interval": f"{seconds}s",
            "external_labels": {"deployment": layout.settings.name},
        },
        "rule_files": list(_rules()),
        "scrape_configs": [
            {**scrape, "sample_limit": _SERIES, "enable_compression": False, "metric_relabel_configs": [_DROPPED]}
            for scrape in (
                job(
                    "region-agent",
                    [_target(agents[region], "region-agent", region=region) for region, _ in regions],
                    with_token,
                ),
                job(
                    "api", [_target(layout.address(f"{one}.api"), "api", region=one) for one, _ in regions], with_token
                ),
                job("worker", through_agents([f"worker-{number}" for number in workers]), with_token),
                job("daprd", through_agents(dapr.sidecar_names(layout)), with_token),
                job("dapr-control-plane", through_agents(["placement", "scheduler"]), with_token),
                job("postgres", through_agents(["database"]), with_token),
                job(
                    "patroni",
                    [_target(layout.link("w", one, "patroni"), "patroni", region=one) for one, _ in regions],
                    with_certificate,
                ),
                job("etcd", [*etcd, _target(layout.address("w.etcd"), "etcd", region="w")], with_certificate),
                job("outside", [_target(layout.address(name), name) for name in outside], with_token),
                job("wan", [_target(layout.address("wan.toxiproxy"), "toxiproxy")], {"scheme": "http"}),
                job("prometheus", [_target(layout.address("w.prometheus"), "prometheus")], with_certificate),
            )
        ],
    }


_DROPPED = {"source_labels": ["__name__"], "regex": _UNREAD, "action": "drop"}


def _target(address: str, process: str, **labels: str) -> dict[str, object]:
    # Ports differ from one deployment to the next; the name of a process does not.
    return {"targets": [address], "labels": {"instance": process, **labels}}


def _web(layout: Layout) -> dict[str, object]:
    own = layout.tls(_SITE)
    return {
        "tls_server_config": {
            "cert_file": str(own.certificate),
            "key_file": str(own.key),
            "client_auth_type": "RequireAndVerifyClientCert",
            "client_ca_file": str(layout.ca),
            "min_version": "TLS13",
        }
    }
