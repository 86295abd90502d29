"""One region's Dapr with mTLS and signed histories, over PostgreSQL, with a Sentry under a root of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from pydantic_ai_dapr import StateStore

from infra.local.identity import TRUST_DOMAIN, Authority, KeyPair
from infra.toolchain import require
from tests.component.dapr_stack import APP_ID, DaprStack, free_ports, http_ok, until

SIGNER = f"spiffe://public/ns/default/{APP_ID}"
_CONTROL_NAMESPACE = "dapr-system"


@dataclass
class SignedStack(DaprStack):
    """As `DaprStack`; `root` is the certificate that every part trusts."""

    dsn: str = ""

    @property
    def root(self) -> bytes:
        return (self.directory / "pki/root.crt").read_bytes()

    def start_sentry(self) -> None:
        issuer, pki = self.directory / "issuer", self.directory / "pki"
        issuer.mkdir()
        pki.mkdir()
        authority = Authority(pki)
        authority.issuer(KeyPair(issuer / "issuer.crt", issuer / "issuer.key"), "test issuer")
        (issuer / "ca.crt").write_bytes(authority.root)
        config = self.directory / "sentry.yaml"
        config.write_text("apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: sentry}\nspec: {}\n")
        self.ports["sentry"], health = free_ports(2)
        options = {
            "port": self.ports["sentry"],
            "healthz-port": health,
            "listen-address": "127.0.0.1",
            "issuer-credentials": issuer,
            "config": config,
            "trust-domain": TRUST_DOMAIN,
            "mode": "standalone",
            "enable-metrics": "false",
            "log-level": "warn",
        }
        command = [str(require(["sentry"])["sentry"]), *(f"--{key}={value}" for key, value in options.items())]
        super().spawn("sentry", command, NAMESPACE=_CONTROL_NAMESPACE)
        until("sentry's health", lambda: http_ok(f"http://127.0.0.1:{health}/healthz"))

    def spawn(self, name: str, command: list[str], **environment: str) -> subprocess.Popen[bytes]:
        sentry = f"--sentry-address=127.0.0.1:{self.ports['sentry']}"
        if name.startswith("daprd"):
            with (self.directory / "config.yaml").open("a") as config:
                config.write("  features: [{name: WorkflowHistorySigning, enabled: true}]\n")
            metadata = [
                {"name": "connectionString", "value": self.dsn},
                {"name": "actorStateStore", "value": "true"},
            ]
            store = {"type": "state.postgresql", "version": "v2", "metadata": metadata}
            component = {"apiVersion": "dapr.io/v1alpha1", "kind": "Component", "metadata": {"name": "state"}}
            (self.directory / "resources/state.yaml").write_text(json.dumps(component | {"spec": store}))
            own = [f"--control-plane-trust-domain={TRUST_DOMAIN}", f"--control-plane-namespace={_CONTROL_NAMESPACE}"]
            command = [*command, "--enable-mtls=true", sentry, *own]
            environment |= {"DAPR_TRUST_ANCHORS": self.root.decode(), "DAPR_HOST_IP": "127.0.0.1"}
        elif name in ("placement", "scheduler"):
            trusting = f"--trust-anchors-file={self.directory / 'pki/root.crt'}"
            own = [f"--trust-domain={TRUST_DOMAIN}", "--mode=standalone", "--tls-enabled=true", trusting]
            command = [*command, sentry, *own]
            environment |= {"NAMESPACE": _CONTROL_NAMESPACE}
        return super().spawn(name, command, **environment)

    def store(self) -> StateStore:
        """Its state store, as an export reads it."""
        return StateStore(APP_ID, self._read)

    def _read(self, keys: list[str]) -> dict[str, bytes]:
        with psycopg.connect(self.dsn) as connection:
            return dict(connection.execute("SELECT key, value FROM state WHERE key = ANY(%s)", [keys]).fetchall())


@contextmanager
def signed_stack(directory: Path, dsn: str) -> Iterator[SignedStack]:
    """A control plane with a Sentry, and one sidecar, ended at the end."""
    stack = SignedStack(directory, dsn=dsn)
    try:
        stack.start_sentry()
        stack.start_control_plane()
        stack.start_sidecar()
        yield stack
    finally:
        stack.close()
