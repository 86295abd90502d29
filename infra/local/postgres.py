"""A region's database under Patroni: nobody connects without TLS, a certificate of the root and a password.

Either region can lead, but only region a may bootstrap: region b has no `bootstrap` section, so it waits for
a database to copy.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from infra.local import etcd
from infra.local.layout import SITE_NAMES, Layout, python
from infra.local.site import Process
from infra.toolchain import find_postgres

__all__ = ["APP_DATABASE", "APP_ROLE", "MAKER", "SCOPE", "Promise", "dsn", "dynamic", "patroni", "write_files"]

SCOPE, APP_ROLE, APP_DATABASE = "holdfast", "holdfast_app", "holdfast"
MAKER = "a"
"""The region that makes the database."""


@dataclass(frozen=True)
class Passwords:
    """The database's, the same in both regions as they are in one database."""

    superuser: str
    replication: str
    rewind: str
    app: str


def read_passwords(layout: Layout) -> Passwords:
    read = [
        layout.secret(f"postgres-{name}").read_text(encoding="utf-8").strip()
        for name in ("superuser", "replication", "rewind", "app")
    ]
    return Passwords(*read)


def dynamic(layout: Layout) -> dict[str, object]:
    """Patroni's configuration that lives in the lease store."""
    lease = layout.settings.lease
    return {
        "ttl": lease.ttl,
        "loop_wait": lease.loop_wait,
        "retry_timeout": lease.retry_timeout,
        "primary_start_timeout": 0,
        "maximum_lag_on_failover": 1048576,
        "synchronous_mode": True,
        "synchronous_mode_strict": False,
        "postgresql": {
            "use_pg_rewind": True,
            "use_slots": True,
            "parameters": {
                "max_connections": 200,
                "max_wal_senders": 8,
                "max_replication_slots": 8,
                "wal_keep_size": "128MB",
                "max_slot_wal_keep_size": "2GB",
                "wal_level": "replica",
                "hot_standby": "on",
            },
        },
    }


def write_files(layout: Layout, region: str) -> bool:
    """Whether a file changed."""
    name = SITE_NAMES[region]
    config = _configuration(layout, region)
    changed = layout.write(layout.config(name, "patroni.yaml"), yaml.safe_dump(config, sort_keys=False))
    changed |= layout.write(layout.config(name, "app.dsn"), dsn(layout, region) + "\n")
    # The verifier is salted, so it is made once.
    script = layout.config(name, "bootstrap.sql")
    if not script.exists():
        verifier = _scram(read_passwords(layout).app)
        layout.write(
            script,
            f"CREATE ROLE {APP_ROLE} LOGIN PASSWORD '{verifier}';\n"
            f"CREATE DATABASE {APP_DATABASE} OWNER {APP_ROLE};\n"
            f"REVOKE CONNECT ON DATABASE {APP_DATABASE} FROM PUBLIC;\n",
        )
    return changed


def dsn(layout: Layout, region: str) -> str:
    """How the app reaches the region's own database; it holds the password."""
    tls = layout.tls(SITE_NAMES[region])
    parts = {
        "host": "127.0.0.1",
        "port": layout.ports[f"{region}.postgres"],
        "user": APP_ROLE,
        "password": read_passwords(layout).app,
        "dbname": APP_DATABASE,
        "sslmode": "verify-full",
        "sslrootcert": layout.ca,
        "sslcert": tls.certificate,
        "sslkey": tls.key,
        "connect_timeout": 5,
    }
    return " ".join(f"{key}={_quoted(str(value))}" for key, value in parts.items())


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
    tls, passwords = layout.tls(name), read_passwords(layout)
    certificate, key, ca = str(tls.certificate), str(tls.key), str(layout.ca)
    as_client = {"sslmode": "verify-full", "sslrootcert": ca, "sslcert": certificate, "sslkey": key}
    superuser = {"username": "postgres", "password": passwords.superuser, **as_client}
    replication = {"username": "replicator", "password": passwords.replication, **as_client}
    rewind = {"username": "rewinder", "password": passwords.rewind, **as_client}
    members = [
        layout.address(f"{region}.etcd"),
        layout.link(region, other, "etcd-client"),
        layout.link(region, "w", "etcd-client"),
    ]
    config: dict[str, object] = {
        "scope": SCOPE,
        "name": region,
        "log": {"level": "INFO", "format": "%(asctime)s %(levelname)s: %(message)s"},
        "restapi": {
            "listen": layout.address(f"{region}.patroni"),
            # As the other region reaches it.
            "connect_address": layout.link(other, region, "patroni"),
            "certfile": certificate,
            "keyfile": key,
            "cafile": ca,
            "verify_client": "required",
        },
        "ctl": {"insecure": False, "cacert": ca, "certfile": certificate, "keyfile": key},
        "etcd3": {
            "hosts": members,
            "protocol": "https",
            # The list is all there is: the members' own addresses would go around the WAN.
            "use_proxies": True,
            "cacert": ca,
            "cert": certificate,
            "key": key,
        },
        "postgresql": {
            "listen": layout.address(f"{region}.postgres"),
            "connect_address": layout.link(other, region, "postgres"),
            "data_dir": str(layout.data(name) / "postgres"),
            "bin_dir": str(find_postgres().bin),
            "pgpass": str(layout.data(name) / "pgpass"),
            "authentication": {"superuser": superuser, "replication": replication, "rewind": rewind},
            "remove_data_directory_on_rewind_failure": True,
            "remove_data_directory_on_diverged_timelines": True,
            "basebackup": [{"checkpoint": "fast"}],
            "parameters": {
                "unix_socket_directories": "",
                "shared_buffers": "64MB",
                "ssl": "on",
                "ssl_cert_file": certificate,
                "ssl_key_file": key,
                "ssl_ca_file": ca,
                "ssl_min_protocol_version": "TLSv1.3",
                "password_encryption": "scram-sha-256",
                "wal_sender_timeout": "5s",
                "wal_receiver_timeout": "5s",
                "wal_retrieve_retry_interval": "500ms",
                "tcp_keepalives_idle": 5,
                "tcp_keepalives_interval": 1,
                "tcp_keepalives_count": 3,
                "tcp_user_timeout": "5s",
                "max_wal_size": "512MB",
                "bgwriter_delay": "1s",
                "wal_writer_delay": "1s",
                "autovacuum_naptime": "30s",
                "jit": "off",
                "huge_pages": "off",
                "logging_collector": "off",
                "log_line_prefix": "%m [%p] %q%u@%d ",
            },
            "pg_hba": [
                "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca",
                "hostssl replication replicator 127.0.0.1/32 scram-sha-256 clientcert=verify-ca",
            ],
        },
        "tags": {"nofailover": False, "noloadbalance": False, "clonefrom": False, "nosync": False},
    }
    if region == MAKER:
        script = shlex.quote(str(layout.config(name, "bootstrap.sql")))
        psql = shlex.quote(str(find_postgres().bin / "psql"))
        config["bootstrap"] = {
            "dcs": dynamic(layout),
            "initdb": [
                {"encoding": "UTF8"},
                {"locale": "C.UTF-8"},
                {"auth-host": "scram-sha-256"},
                {"auth-local": "reject"},
                "data-checksums",
            ],
            "post_bootstrap": f"{psql} -X -q -v ON_ERROR_STOP=1 -f {script}",
        }
    return config


def _scram(password: str, iterations: int = 4096) -> str:
    """PostgreSQL's verifier: the server never sees the password, nor do its logs."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    server = hmac.digest(salted, b"Server Key", "sha256")
    stored = hashlib.sha256(client).digest()
    text = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{text[0]}${text[1]}:{text[2]}"


def _quoted(value: str) -> str:
    if value and not any(character in value for character in " '\\"):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def settings_differ(seen: dict[str, object], wanted: dict[str, object]) -> bool:
    """Whether the lease store's configuration has to be patched."""
    return any(
        json.dumps(seen.get(key), sort_keys=True) != json.dumps(value, sort_keys=True) for key, value in wanted.items()
    )
