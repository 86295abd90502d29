"""One root that every part trusts; each key is readable only by whom it speaks for.

The root's key belongs to whoever runs `up` and never to a service. Each region's Dapr issuer is an
intermediate under the root, so that histories signed in one region verify in the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.certificates import Pem, Root
from infra.local.files import PUBLIC, write
from infra.toolchain.account import Account

__all__ = ["TRUST_DOMAIN", "Authority", "KeyPair", "peer_host"]

TRUST_DOMAIN = "holdfast.local"


def peer_host(site: str) -> str:
    """The name under which a site's lease store is known to the others; it never resolves."""
    return f"etcd-{site}.{TRUST_DOMAIN}"


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """The root certificate of one deployment, in `directory`; made if it is not there."""

    def __init__(self, directory: Path) -> None:
        self.pair = KeyPair(directory / "root.crt", directory / "root.key")
        if not self.pair.certificate.exists() or not self.pair.key.exists():
            made = Root.new()
            write(self.pair.key, made.key)
            write(self.pair.certificate, made.certificate, mode=PUBLIC)
        self._root = Root(Pem(self.pair.certificate.read_bytes(), self.pair.key.read_bytes()))

    @property
    def root(self) -> bytes:
        """The root certificate as PEM."""
        return self._root.certificate

    def leaf(self, pair: KeyPair, name: str, hosts: Sequence[str] = (), owner: Account | None = None) -> bool:
        """Whether a certificate for server and client use had to be made, for loopback and `hosts`."""
        return not self._current(pair) and _keep(self._root.leaf(name, hosts), pair, owner)

    def issuer(self, pair: KeyPair, name: str, owner: Account | None = None) -> bool:
        """Whether an intermediate that signs workload certificates had to be made."""
        return not self._current(pair) and _keep(self._root.issuer(name), pair, owner)

    def _current(self, pair: KeyPair) -> bool:
        """Whether the pair is there, is this root's and is not about to expire."""
        there = pair.certificate.exists() and pair.key.exists()
        return there and self._root.still_vouches_for(pair.certificate.read_bytes())


def _keep(made: Pem, pair: KeyPair, owner: Account | None) -> bool:
    # The certificate last: while it is missing, the pair is made anew.
    pair.certificate.unlink(missing_ok=True)
    write(pair.key, made.key, owner)
    write(pair.certificate, made.certificate, owner, PUBLIC)
    return True
