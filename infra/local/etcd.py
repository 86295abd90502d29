"""A member of the lease store demands a certificate of everybody, and reaches its peers only over WAN links."""

from __future__ import annotations

from infra.local.identity import peer_host
from infra.local.layout import SITE_NAMES, Layout
from infra.local.links import SITES
from infra.local.site import Process
from infra.toolchain import require

__all__ = ["member"]


def member(layout: Layout, where: str) -> Process:
    """The lease store's member at `where`."""
    name = SITE_NAMES[where]
    tls = layout.tls(name)
    client, peer = layout.ports[f"{where}.etcd"], layout.ports[f"{where}.etcd-peer"]
    cluster = ",".join(f"{site}=https://{_peer(layout, site)}" for site in SITES)
    certificate, key, ca = str(tls.certificate), str(tls.key), str(layout.ca)
    options = {
        "name": where,
        "data-dir": str(layout.data(name) / "etcd"),
        "listen-client-urls": f"https://127.0.0.1:{client}",
        "advertise-client-urls": f"https://127.0.0.1:{client}",
        "listen-peer-urls": f"https://127.0.0.1:{peer}",
        "initial-advertise-peer-urls": f"https://{_peer(layout, where)}",
        "initial-cluster": cluster,
        "initial-cluster-state": "new",
        "initial-cluster-token": f"holdfast-{layout.settings.name}",
        "heartbeat-interval": "100",
        "election-timeout": "1000",
        "cert-file": certificate,
        "key-file": key,
        "trusted-ca-file": ca,
        "client-cert-auth": "true",
        "peer-cert-file": certificate,
        "peer-key-file": key,
        "peer-trusted-ca-file": ca,
        "peer-client-cert-auth": "true",
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "1h",
        "logger": "zap",
        "log-level": "warn",
    }
    program = require(["etcd"])["etcd"]
    return Process(
        "etcd",
        (str(program), *(f"--{option}={value}" for option, value in options.items())),
        # Go never takes a proxy for a loopback address, which is why peers have names.
        {"HTTPS_PROXY": f"http://{layout.address(f'gateway.{where}')}", "NO_PROXY": "", "GOGC": "50"},
        stop_seconds=5,
        ports={"etcd": client, "etcd peer": peer},
    )


def _peer(layout: Layout, where: str) -> str:
    return f"{peer_host(where)}:{layout.ports[f'{where}.etcd-peer']}"
