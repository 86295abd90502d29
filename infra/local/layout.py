"""Where everything of one deployment is: directories, ports and addresses, from its settings alone.

Whoever needs a path or a port asks here, so that two parts never disagree on one.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from infra.local.files import PRIVATE, PUBLIC, exclusively, make_directory, write
from infra.local.identity import Authority, KeyPair, peer_host
from infra.local.links import between
from infra.local.ports import Ports, allocate
from infra.local.site import Process, Site
from infra.toolchain.account import Account, ensure_account
from infra.topology import APP_SECRETS, Settings, TlsFiles

__all__ = ["SITE_NAMES", "Layout"]

SITE_NAMES = {"a": "region-a", "b": "region-b", "w": "witness"}
"""Each place that links name, and the site there."""


@dataclass(frozen=True)
class Layout:
    """One deployment on this machine. `where` is a place as links name it: `a`, `b` or `w`."""

    settings: Settings
    account: Account
    ports: Ports

    @classmethod
    def of(cls, settings: Settings) -> Layout:
        """The layout, its ports allocated if need be."""
        account = ensure_account()
        with exclusively(settings.directory):
            return cls(settings, account, allocate(settings))

    @property
    def root(self) -> Path:
        return self.settings.directory

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def ca(self) -> Path:
        return self.pki / "root.crt"

    @property
    def client(self) -> KeyPair:
        """The certificate of the command line and the bench."""
        return KeyPair(self.pki / "client.crt", self.pki / "client.key")

    def secret(self, name: str) -> Path:
        return self.root / "secrets" / name

    @property
    def secrets(self) -> dict[str, str]:
        """The file of each secret that the app's processes read."""
        return {name: str(self.secret(name)) for name in APP_SECRETS}

    def site(self, name: str) -> Path:
        return self.root / name

    def data(self, name: str) -> Path:
        return self.site(name) / "data"

    def config(self, name: str, file: str) -> Path:
        return self.site(name) / "config" / file

    def tls(self, name: str) -> KeyPair:
        """A site's own certificate, for servers and clients in it."""
        return KeyPair(self.site(name) / "tls" / "node.crt", self.site(name) / "tls" / "node.key")

    def tls_files(self, name: str) -> TlsFiles:
        """A site's certificate as its processes' configuration names it."""
        pair = self.tls(name)
        return TlsFiles(str(self.ca), str(pair.certificate), str(pair.key))

    def address(self, port: str) -> str:
        return f"127.0.0.1:{self.ports[port]}"

    def url(self, port: str) -> str:
        return f"https://{self.address(port)}"

    def link(self, source: str, target: str, line: str) -> str:
        """Where `source` dials to reach `target` over the WAN."""
        return self.address(between(source, target, line).port)

    def link_url(self, source: str, target: str, line: str) -> str:
        return f"https://{self.link(source, target, line)}"

    def prepare(self, name: str, hosts: tuple[str, ...] = ()) -> bool:
        """Whether the site's certificate is new; its directories are there afterwards, its account's own."""
        for below, mode in (("", 0o755), ("config", 0o750), ("data", 0o750), ("tls", 0o750), ("logs", 0o750)):
            make_directory(self.site(name) / below, self.account, mode)
        with exclusively(self.root):
            return Authority(self.pki).leaf(self.tls(name), name, hosts, self.account)

    def prepare_member(self, where: str) -> bool:
        """`prepare` for a site with a member of the lease store."""
        return self.prepare(SITE_NAMES[where], (peer_host(where),))

    def write(self, path: Path, content: str, *, private: bool = True) -> bool:
        """Whether a file of the services had to be written."""
        return write(path, content, self.account, PRIVATE if private else PUBLIC)

    def supervised(self, name: str, processes: tuple[Process, ...]) -> Site:
        return Site(name, self.site(name), self.root, self.account, processes)


def python(*arguments: str) -> tuple[str, ...]:
    """A command that runs this project's own Python."""
    return (os.path.abspath(sys.executable), *arguments)
