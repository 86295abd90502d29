"""A region's Dapr: mTLS under the shared root, identities only for holders of a token, signed histories.

The scheduler and the sidecars do not start by themselves: the region agent starts them where the database is
primary.
"""

from __future__ import annotations

from infra.local.files import PUBLIC, as_yaml, exclusively, make_directory, write
from infra.local.identity import TRUST_DOMAIN, Authority, KeyPair
from infra.local.layout import SITE_NAMES, Layout
from infra.local.postgres import dsn
from infra.local.site import Process
from infra.local.tokens import CONTROL_NAMESPACE, TokenIssuer
from infra.processes import APP_ID
from infra.sidecars import FEATURES, state_store
from infra.toolchain import require

__all__ = ["APP_ID", "SIGNER", "measured", "processes", "sidecar_names", "write_files"]

_NAMESPACE = "default"
_APP_TRUST_DOMAIN = "public"
SIGNER = f"spiffe://{_APP_TRUST_DOMAIN}/ns/{_NAMESPACE}/{APP_ID}"
"""Whose certificate signs the histories of both regions."""
_IDENTITIES = {
    "placement": (TRUST_DOMAIN, CONTROL_NAMESPACE, "dapr-placement"),
    "scheduler": (TRUST_DOMAIN, CONTROL_NAMESPACE, "dapr-scheduler"),
    "daprd": (_APP_TRUST_DOMAIN, _NAMESPACE, APP_ID),
}


def sidecar_names(layout: Layout) -> list[str]:
    return [f"daprd-{number}" for number in range(1, layout.settings.workers + 1)]


def measured(layout: Layout) -> list[str]:
    """Whose metrics can be had. Sentry's would be told on every interface, whatever it is told, so it tells none."""
    return ["placement", "scheduler", *sidecar_names(layout)]


def write_files(layout: Layout, region: str) -> bool:
    """Whether a file changed."""
    name = SITE_NAMES[region]
    issuer = make_directory(layout.config(name, "issuer"), layout.account, 0o750)
    resources = make_directory(layout.config(name, "resources"), layout.account, 0o750)
    pair = KeyPair(issuer / "issuer.crt", issuer / "issuer.key")
    with exclusively(layout.root):
        authority, tokens = Authority(layout.pki), TokenIssuer(layout.pki)
        changed = authority.issuer(pair, f"Holdfast {name} issuer", layout.account)
    changed |= write(issuer / "ca.crt", authority.root, layout.account, PUBLIC)
    changed |= layout.write(layout.config(name, "token-keys.json"), tokens.key_set())
    for process, identity in _IDENTITIES.items():
        path = layout.config(name, f"{process}.token")
        if changed or not path.exists():
            changed |= layout.write(path, tokens.token(*identity))
    changed |= layout.write(layout.config(name, "sentry.yaml"), as_yaml(_sentry(layout, name)))
    changed |= layout.write(layout.config(name, "daprd.yaml"), as_yaml(_sidecar()))
    store = as_yaml(_state_store(layout, region))
    return changed | layout.write(resources / "statestore.yaml", store)


def processes(layout: Layout, region: str) -> tuple[Process, ...]:
    """Sentry, placement, scheduler and the sidecars."""
    name, ports = SITE_NAMES[region], layout.ports
    found = require(["sentry", "placement", "scheduler", "daprd"])

    def own(process: str, *kinds: str) -> dict[str, int]:
        return {f"{process}{kind}": ports[f"{region}.{process}{kind}"] for kind in ("", *kinds)}

    def process_of(process: str, options: dict[str, object], autostart: bool, used: dict[str, int]) -> Process:
        return Process(
            process,
            (str(found[process]), *_flags(options)),
            {"NAMESPACE": CONTROL_NAMESPACE, "GOGC": "50", **_token(layout, name, process)},
            autostart=autostart,
            stop_seconds=5,
            ports=used,
        )

    sentry_address = layout.address(f"{region}.sentry")
    trusting = {
        "tls-enabled": True,
        "sentry-address": sentry_address,
        "trust-anchors-file": layout.ca,
        "trust-domain": TRUST_DOMAIN,
        "mode": "standalone",
        "listen-address": "127.0.0.1",
    }
    sentry = process_of(
        "sentry",
        {
            **_served(layout, region, "sentry"),
            "listen-address": "127.0.0.1",
            "issuer-credentials": layout.config(name, "issuer"),
            "trust-domain": TRUST_DOMAIN,
            "mode": "standalone",
            "config": layout.config(name, "sentry.yaml"),
            "enable-metrics": False,
        },
        True,
        own("sentry", "-health"),
    )
    placement = process_of(
        "placement",
        {
            **_served(layout, region, "placement"),
            **trusting,
            "initial-cluster": f"dapr-placement-0={layout.address(f'{region}.placement-raft')}",
        },
        True,
        own("placement", "-health", "-metrics", "-raft"),
    )
    scheduler = process_of(
        "scheduler",
        {
            **_served(layout, region, "scheduler"),
            **trusting,
            "etcd-client-port": ports[f"{region}.scheduler-etcd"],
            "etcd-client-listen-address": "127.0.0.1",
            "etcd-initial-cluster": (
                f"dapr-scheduler-server-0=http://localhost:{ports[f'{region}.scheduler-etcd-peer']}"
            ),
            "etcd-data-dir": layout.data(name) / "scheduler",
            "override-broadcast-host-port": layout.address(f"{region}.scheduler"),
        },
        False,
        own("scheduler", "-health", "-metrics", "-etcd", "-etcd-peer"),
    )
    sidecars = (_daprd(layout, region, sidecar, str(found["daprd"])) for sidecar in sidecar_names(layout))
    return (sentry, placement, scheduler, *sidecars)


def _daprd(layout: Layout, region: str, sidecar: str, program: str) -> Process:
    name = SITE_NAMES[region]

    def port(kind: str) -> int:
        return layout.ports[f"{region}.{sidecar}-{kind}"]

    token = layout.config(name, "dapr-api-token").read_text(encoding="utf-8").strip()
    options = {
        "app-id": APP_ID,
        "dapr-grpc-port": port("grpc"),
        "dapr-http-port": port("http"),
        "dapr-internal-grpc-port": port("internal"),
        "app-port": port("app"),
        "app-protocol": "http",
        "app-channel-address": "127.0.0.1",
        "metrics-port": port("metrics"),
        "metrics-listen-address": "127.0.0.1",
        "dapr-listen-addresses": "127.0.0.1",
        "dapr-internal-grpc-listen-address": "127.0.0.1",
        "placement-host-address": layout.address(f"{region}.placement"),
        "scheduler-host-address": layout.address(f"{region}.scheduler"),
        "resources-path": layout.config(name, "resources"),
        "config": layout.config(name, "daprd.yaml"),
        "enable-mtls": True,
        "sentry-address": layout.address(f"{region}.sentry"),
        "control-plane-trust-domain": TRUST_DOMAIN,
        "control-plane-namespace": CONTROL_NAMESPACE,
        "max-body-size": layout.settings.max_body_size,
        "log-level": "info",
        "log-as-json": True,
    }
    return Process(
        sidecar,
        (program, *_flags(options)),
        {
            "NAMESPACE": _NAMESPACE,
            "DAPR_TRUST_ANCHORS": layout.ca.read_text(encoding="utf-8"),
            "DAPR_API_TOKEN": token,
            "APP_API_TOKEN": token,
            # Where the other sidecars reach this one; else it is the machine's own address.
            "DAPR_HOST_IP": "127.0.0.1",
            **_token(layout, name, "daprd"),
        },
        autostart=False,
        stop_seconds=5,
        ports={f"{sidecar} {kind}": port(kind) for kind in ("grpc", "http", "internal", "metrics")},
    )


def _served(layout: Layout, region: str, process: str) -> dict[str, object]:
    return {
        "port": layout.ports[f"{region}.{process}"],
        "healthz-port": layout.ports[f"{region}.{process}-health"],
        "healthz-listen-address": "127.0.0.1",
        "metrics-port": layout.ports[f"{region}.{process}-metrics"],
        "metrics-listen-address": "127.0.0.1",
        "log-level": "info",
        "log-as-json": True,
    }


def _token(layout: Layout, name: str, process: str) -> dict[str, str]:
    if process not in _IDENTITIES:
        return {}
    return {"DAPR_SENTRY_TOKEN_FILE": str(layout.config(name, f"{process}.token"))}


def _flags(options: dict[str, object]) -> list[str]:
    shown = {True: "true", False: "false"}
    return [f"--{key}={shown[value] if isinstance(value, bool) else value}" for key, value in options.items()]


def _sentry(layout: Layout, name: str) -> dict[str, object]:
    validator = {"name": "jwks", "options": {"source": str(layout.config(name, "token-keys.json"))}}
    return _configuration("sentry", {"mtls": {"tokenValidators": [validator]}})


def _sidecar() -> dict[str, object]:
    # Workflows find each other through placement. Of the resolvers in a stable build this is the only one
    # that neither listens nor sends anything; the default would answer multicast on every interface.
    resolution = {"component": "kubernetes", "configuration": {"clusterDomain": "invalid"}}
    spec: dict[str, object] = {
        "features": FEATURES,
        "nameResolution": resolution,
        "tracing": {"samplingRate": "0"},
    }
    return _configuration("holdfast", spec)


def _configuration(name: str, spec: dict[str, object]) -> dict[str, object]:
    return {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Configuration",
        "metadata": {"name": name},
        "spec": spec,
    }


def _state_store(layout: Layout, region: str) -> dict[str, object]:
    return {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": "statestore"},
        "spec": state_store({"value": dsn(layout, region)}),
    }
