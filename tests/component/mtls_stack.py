"""One region's Dapr on free ports with mTLS: each app has an identity, which only its token's holder can get."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from infra.local.identity import TRUST_DOMAIN, Authority, KeyPair
from infra.local.tokens import CONTROL_NAMESPACE, TokenIssuer
from infra.toolchain import require
from tests.component.dapr_stack import API_TOKEN, DaprStack, Sidecar, free_ports, http_ok, until

APP_TRUST_DOMAIN = "public"


@dataclass
class MtlsStack(DaprStack):
    """Sentry, placement, scheduler and sidecars of several apps, each with a state store of its own."""

    signed_histories: bool = True
    resources: dict[str, list[object]] = field(default_factory=dict[str, list[object]])
    """What an app's sidecar loads besides its state store."""

    def __post_init__(self) -> None:
        pki = self.directory / "pki"
        pki.mkdir()
        self.authority, self.tokens = Authority(pki), TokenIssuer(pki)
        self.trust_anchors = self.directory / "ca.crt"
        self.trust_anchors.write_bytes(self.authority.root)

    def start_control_plane(self) -> None:
        names = ("sentry", "sentry_health", "placement", "placement_raft", "placement_health", "scheduler")
        names += ("scheduler_health", "scheduler_etcd", "scheduler_peer", "placement_metrics", "scheduler_metrics")
        self.ports |= dict(zip(names, free_ports(len(names)), strict=True))
        p = self.ports
        issuer = self.directory / "issuer"
        issuer.mkdir()
        self.authority.issuer(KeyPair(issuer / "issuer.crt", issuer / "issuer.key"), "Component test issuer")
        (issuer / "ca.crt").write_bytes(self.authority.root)
        keys = self.directory / "keys.json"
        keys.write_text(self.tokens.key_set())
        validator = {"name": "jwks", "options": {"source": str(keys)}}
        self._write("sentry.yaml", _configuration({"mtls": {"tokenValidators": [validator]}}))
        self.spawn(
            "sentry",
            [
                str(require(["sentry"])["sentry"]),
                f"--port={p['sentry']}",
                f"--healthz-port={p['sentry_health']}",
                "--listen-address=127.0.0.1",
                f"--issuer-credentials={issuer}",
                f"--trust-domain={TRUST_DOMAIN}",
                "--mode=standalone",
                f"--config={self.directory / 'sentry.yaml'}",
                "--enable-metrics=false",
            ],
            NAMESPACE=CONTROL_NAMESPACE,
        )
        until("sentry's health", lambda: http_ok(f"http://127.0.0.1:{p['sentry_health']}/healthz"))
        self._spawn_trusting("placement", f"--initial-cluster=dapr-placement-0=127.0.0.1:{p['placement_raft']}")
        self.start_scheduler()

    def start_scheduler(self) -> None:
        p = self.ports
        self._spawn_trusting(
            "scheduler",
            f"--etcd-client-port={p['scheduler_etcd']}",
            f"--etcd-initial-cluster=dapr-scheduler-server-0=http://localhost:{p['scheduler_peer']}",
            f"--etcd-data-dir={self.directory / 'scheduler'}",
            f"--override-broadcast-host-port=127.0.0.1:{p['scheduler']}",
        )
        until("the scheduler's health", lambda: http_ok(f"http://127.0.0.1:{p['scheduler_health']}/healthz"))

    def start_app(self, app_id: str) -> Sidecar:
        """A sidecar that Sentry knows as `app_id`; started again, it has the ports that it had."""
        kinds = [f"{app_id}-{kind}" for kind in ("grpc", "http", "internal", "metrics", "public")]
        for kind, port in zip(kinds, free_ports(len(kinds)), strict=True):
            self.ports.setdefault(kind, port)
        grpc, http, internal, metrics, public = (self.ports[kind] for kind in kinds)
        resources = self.directory / f"{app_id}-resources"
        resources.mkdir(exist_ok=True)
        store = {
            "apiVersion": "dapr.io/v1alpha1",
            "kind": "Component",
            "metadata": {"name": "state"},
            "spec": {
                "type": "state.sqlite",
                "version": "v1",
                "metadata": [
                    {"name": "connectionString", "value": str(self.directory / f"{app_id}.db")},
                    {"name": "actorStateStore", "value": "true"},
                ],
            },
        }
        for number, resource in enumerate([store, *self.resources.get(app_id, [])]):
            (resources / f"{number}.yaml").write_text(yaml.safe_dump(resource))
        resolution = {"component": "kubernetes", "configuration": {"clusterDomain": "invalid"}}
        signing = {"name": "WorkflowHistorySigning", "enabled": self.signed_histories}
        self._write(f"{app_id}.yaml", _configuration({"features": [signing], "nameResolution": resolution}))
        process = self.spawn(
            f"daprd-{app_id}",
            [
                str(require(["daprd"])["daprd"]),
                f"--app-id={app_id}",
                f"--dapr-grpc-port={grpc}",
                f"--dapr-http-port={http}",
                f"--dapr-internal-grpc-port={internal}",
                f"--dapr-public-port={public}",
                f"--metrics-port={metrics}",
                f"--placement-host-address=127.0.0.1:{self.ports['placement']}",
                f"--scheduler-host-address=127.0.0.1:{self.ports['scheduler']}",
                f"--resources-path={resources}",
                f"--config={self.directory / f'{app_id}.yaml'}",
                "--enable-mtls",
                f"--sentry-address=127.0.0.1:{self.ports['sentry']}",
                f"--control-plane-trust-domain={TRUST_DOMAIN}",
                f"--control-plane-namespace={CONTROL_NAMESPACE}",
                "--dapr-listen-addresses=127.0.0.1",
                "--dapr-internal-grpc-listen-address=127.0.0.1",
                "--metrics-listen-address=127.0.0.1",
                "--log-level=info",
            ],
            NAMESPACE="default",
            DAPR_API_TOKEN=API_TOKEN,
            DAPR_TRUST_ANCHORS=self.trust_anchors.read_text(),
            DAPR_HOST_IP="127.0.0.1",
            DAPR_SENTRY_TOKEN_FILE=self._token(app_id, APP_TRUST_DOMAIN, "default"),
        )
        sidecar = Sidecar(grpc, http, process)
        self.sidecars.append(sidecar)
        until(f"the sidecar of {app_id}", lambda: http_ok(f"http://127.0.0.1:{http}/v1.0/healthz/outbound"))
        return sidecar

    def log(self, app_id: str) -> str:
        """What an app's sidecar has logged."""
        return (self.directory / f"daprd-{app_id}.log").read_text()

    def _spawn_trusting(self, name: str, *own: str) -> None:
        p = self.ports
        self.spawn(
            name,
            [
                str(require([name])[name]),
                f"--port={p[name]}",
                f"--healthz-port={p[f'{name}_health']}",
                f"--metrics-port={p[f'{name}_metrics']}",
                "--tls-enabled",
                f"--sentry-address=127.0.0.1:{p['sentry']}",
                f"--trust-anchors-file={self.trust_anchors}",
                f"--trust-domain={TRUST_DOMAIN}",
                "--mode=standalone",
                "--listen-address=127.0.0.1",
                *own,
            ],
            NAMESPACE=CONTROL_NAMESPACE,
            DAPR_SENTRY_TOKEN_FILE=self._token(f"dapr-{name}", TRUST_DOMAIN, CONTROL_NAMESPACE),
        )

    def _token(self, name: str, trust_domain: str, namespace: str) -> str:
        path = self.directory / f"{name}.token"
        path.write_text(self.tokens.token(trust_domain, namespace, name))
        return str(path)

    def _write(self, name: str, document: object) -> None:
        (self.directory / name).write_text(yaml.safe_dump(document))


@contextmanager
def mtls_stack(directory: Path, *, signed_histories: bool = True) -> Iterator[MtlsStack]:
    """A control plane with mTLS and no sidecar yet, ended at the end."""
    stack = MtlsStack(directory, signed_histories=signed_histories)
    try:
        stack.start_control_plane()
        yield stack
    finally:
        stack.close()


def _configuration(spec: dict[str, object]) -> dict[str, object]:
    return {"apiVersion": "dapr.io/v1alpha1", "kind": "Configuration", "metadata": {"name": "config"}, "spec": spec}
