"""One region's Dapr with mTLS and signed histories: the same processes, with a Sentry under a root of their own."""

from __future__ import annotations

import sqlite3
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic_ai_dapr import StateStore

from infra.local.identity import TRUST_DOMAIN, Authority, KeyPair
from infra.toolchain import require
from tests.component.dapr_stack import DaprStack, _http_ok, free_ports, until

APP_ID = "agents"
SIGNER = f"spiffe://public/ns/default/{APP_ID}"
_CONTROL_NAMESPACE = "dapr-system"


class SignedStack(DaprStack):
    """As `DaprStack`; `root` is the certificate that every part trusts."""

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
        until("sentry's health", lambda: _http_ok(f"http://127.0.0.1:{health}/healthz"))

    def spawn(self, name: str, command: list[str], **environment: str) -> subprocess.Popen[bytes]:
        sentry = f"--sentry-address=127.0.0.1:{self.ports['sentry']}"
        if name.startswith("daprd"):
            with (self.directory / "config.yaml").open("a") as config:
                config.write("  features: [{name: WorkflowHistorySigning, enabled: true}]\n")
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
        connection = sqlite3.connect(self.directory / "state.db")
        try:
            marks = ",".join("?" * len(keys))
            query = f"SELECT key, value FROM state WHERE key IN ({marks})"  # noqa: S608  # placeholders
            return {key: b64decode(value) for key, value in connection.execute(query, keys)}
        finally:
            connection.close()


@contextmanager
def signed_stack(directory: Path) -> Iterator[SignedStack]:
    """A control plane with a Sentry, and one sidecar, ended at the end."""
    stack = SignedStack(directory)
    try:
        stack.start_sentry()
        stack.start_control_plane()
        stack.start_sidecar()
        yield stack
    finally:
        stack.close()
