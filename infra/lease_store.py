"""A member of the lease store, as every target starts it: it demands a certificate of everybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from infra.topology import TlsFiles

__all__ = ["Member", "arguments"]


@dataclass(frozen=True)
class Member:
    """One member, and every member's address as the others reach it, `host:port` by name."""

    name: str
    deployment: str
    data_dir: str
    client_url: str
    client_listen: str
    peer_listen: str
    peers: Mapping[str, str]
    tls: TlsFiles
    state: str = "new"
    """`existing` for a member that joins others anew."""


def arguments(member: Member) -> list[str]:
    """What etcd is started with."""
    certificate, key, ca = member.tls.cert, member.tls.key, member.tls.ca
    options = {
        "name": member.name,
        "data-dir": member.data_dir,
        "listen-client-urls": member.client_listen,
        "advertise-client-urls": member.client_url,
        "listen-peer-urls": member.peer_listen,
        "initial-advertise-peer-urls": f"https://{member.peers[member.name]}",
        "initial-cluster": ",".join(f"{name}=https://{address}" for name, address in member.peers.items()),
        "initial-cluster-state": member.state,
        "initial-cluster-token": f"holdfast-{member.deployment}",
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
    return [f"--{option}={value}" for option, value in options.items()]
