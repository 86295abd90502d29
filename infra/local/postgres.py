"""A region's database under Patroni on this machine; `infra.database` says what it is told."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import yaml

from infra import database
from infra.database import APP_DATABASE, APP_ROLE, MAKER, SCOPE, Passwords
from infra.local import etcd
from infra.local.layout import SITE_NAMES, Layout, python
from infra.local.site import Process
from infra.toolchain import find_postgres
from infra.topology import DATABASE_SECRETS

__all__ = ["APP_DATABASE", "APP_ROLE", "MAKER", "SCOPE", "Promise", "dsn", "dynamic", "patroni", "write_files"]


def read_passwords(layout: Layout) -> Passwords:
    read = [layout.secret(f"postgres-{name}").read_text(encoding="utf-8").strip() for name in DATABASE_SECRETS]
    return Passwords(*read)


def dynamic(layout: Layout) -> dict[str, object]:
    """Patroni's configuration that lives in the lease store."""
    return database.dynamic(layout.settings.lease)


def write_files(layout: Layout, region: str) -> bool:
    """Whether a file changed."""
    name = SITE_NAMES[region]
    config = _configuration(layout, region)
    changed = layout.write(layout.config(name, "patroni.yaml"), yaml.safe_dump(config, sort_keys=False))
    changed |= layout.write(layout.config(name, "app.dsn"), dsn(layout, region) + "\n")
    # The verifier is salted, so it is made once.
    script = layout.config(name, "bootstrap.sql")
    if not script.exists():
        layout.write(script, database.bootstrap_sql(database.scram(read_passwords(layout).app)))
    return changed


def dsn(layout: Layout, region: str) -> str:
    """How the app reaches the region's own database; it holds the password."""
    tls, port = layout.tls_files(SITE_NAMES[region]), layout.ports[f"{region}.postgres"]
    return database.dsn("127.0.0.1", port, read_passwords(layout).app, tls)


def patroni(layout: Layout, region: str) -> Process:
    name = SITE_NAMES[region]
    return Process(
        "postgres",
        python("-m", "patroni", str(layout.config(name, "patroni.yaml"))),
        # Patroni stops PostgreSQL by itself, and a signal to the group would reach PostgreSQL first.
        parent_only=True,
        stop_seconds=15,
        ports={
            "postgres": layout.ports[f"{region}.postgres"],
            "patroni": layout.ports[f"{region}.patroni"],
        },
    )


class Promise:
    """Withdraws a promise to make the database that is not being kept, so that it is made after all.

    Before it makes a database, Patroni writes a key into the lease store, and nobody else makes one then. Where the
    answer to that was lost, it asks again, takes its own key for somebody else's, and every region waits for ever.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout, self._key = layout, f"/service/{SCOPE}/initialize"
        self._idle_since: tuple[str, float] | None = None

    def mend(self, node: Mapping[str, Any]) -> bool:
        """Whether the promise was withdrawn; `node` is what Patroni says of the region that makes the database.

        It is when the node has been seen idle for three of its rounds. Raises httpx.HTTPError.
        """
        idle = node.get("role") == "uninitialized" and node.get("state") == "stopped"
        revision = etcd.revision_of_empty(self._layout, MAKER, self._key) if idle else None
        if revision is None:
            self._idle_since = None
            return False
        if self._idle_since is None or self._idle_since[0] != revision:
            self._idle_since = (revision, time.monotonic())
        if time.monotonic() - self._idle_since[1] < 3 * self._layout.settings.lease.loop_wait:
            return False
        return etcd.remove_if_unchanged(self._layout, MAKER, self._key, revision)


def _configuration(layout: Layout, region: str) -> dict[str, object]:
    name, other = SITE_NAMES[region], "b" if region == "a" else "a"
    node = database.Node(
        region=region,
        tls=layout.tls_files(name),
        patroni_listen=layout.address(f"{region}.patroni"),
        patroni_address=layout.link(other, region, "patroni"),
        postgres_listen=layout.address(f"{region}.postgres"),
        postgres_address=layout.link(other, region, "postgres"),
        lease_store=(
            layout.address(f"{region}.etcd"),
            layout.link(region, other, "etcd-client"),
            layout.link(region, "w", "etcd-client"),
        ),
        data_dir=str(layout.data(name) / "postgres"),
        bin_dir=str(find_postgres().bin),
        pgpass=str(layout.data(name) / "pgpass"),
        bootstrap_script=str(layout.config(name, "bootstrap.sql")),
        clients=("127.0.0.1/32",),
    )
    return database.configuration(node, read_passwords(layout), dynamic(layout))


def settings_differ(seen: dict[str, object], wanted: dict[str, object]) -> bool:
    """Whether the lease store's configuration has to be patched."""
    return any(
        json.dumps(seen.get(key), sort_keys=True) != json.dumps(value, sort_keys=True) for key, value in wanted.items()
    )
