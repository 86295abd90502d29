"""A region's database under Patroni, as every target configures it.

Nobody connects without TLS, a certificate of the root and a password. Either region can lead, but only region a may
bootstrap: region b has no `bootstrap` section, so it waits for a database to copy.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.topology import Lease, TlsFiles

__all__ = [
    "APP_DATABASE",
    "APP_ROLE",
    "MAKER",
    "SCOPE",
    "Node",
    "Passwords",
    "bootstrap_sql",
    "configuration",
    "dsn",
    "dynamic",
    "scram",
]

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


@dataclass(frozen=True)
class Node:
    """One database node: where it listens, how the other region reaches it, and where its files are."""

    region: str
    tls: TlsFiles
    patroni_listen: str
    patroni_address: str
    postgres_listen: str
    postgres_address: str
    lease_store: Sequence[str]
    """Every member of the lease store, `host:port` as this node reaches it."""
    data_dir: str
    bin_dir: str
    pgpass: str
    bootstrap_script: str
    clients: Sequence[str]
    """The networks that connections come from."""


def dynamic(lease: Lease) -> dict[str, object]:
    """Patroni's configuration that lives in the lease store."""
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


def configuration(node: Node, passwords: Passwords, in_lease_store: Mapping[str, object]) -> dict[str, object]:
    """Patroni's file for one node. `in_lease_store` is what the node that makes the database puts there."""
    certificate, key, ca = node.tls.cert, node.tls.key, node.tls.ca
    as_client = {"sslmode": "verify-full", "sslrootcert": ca, "sslcert": certificate, "sslkey": key}
    superuser = {"username": "postgres", "password": passwords.superuser, **as_client}
    replication = {"username": "replicator", "password": passwords.replication, **as_client}
    rewind = {"username": "rewinder", "password": passwords.rewind, **as_client}
    config: dict[str, object] = {
        "scope": SCOPE,
        "name": node.region,
        "log": {"level": "INFO", "format": "%(asctime)s %(levelname)s: %(message)s"},
        "restapi": {
            "listen": node.patroni_listen,
            # As the other region reaches it.
            "connect_address": node.patroni_address,
            "certfile": certificate,
            "keyfile": key,
            "cafile": ca,
            "verify_client": "required",
        },
        "ctl": {"insecure": False, "cacert": ca, "certfile": certificate, "keyfile": key},
        "etcd3": {
            "hosts": list(node.lease_store),
            "protocol": "https",
            # The list is all there is: the members' own addresses would go around the WAN.
            "use_proxies": True,
            "cacert": ca,
            "cert": certificate,
            "key": key,
        },
        "postgresql": {
            "listen": node.postgres_listen,
            "connect_address": node.postgres_address,
            "data_dir": node.data_dir,
            "bin_dir": node.bin_dir,
            "pgpass": node.pgpass,
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
                f"hostssl {database} {network} scram-sha-256 clientcert=verify-ca"
                for database in ("all all", "replication replicator")
                for network in node.clients
            ],
        },
        "tags": {"nofailover": False, "noloadbalance": False, "clonefrom": False, "nosync": False},
    }
    if node.region == MAKER:
        psql, script = shlex.quote(f"{node.bin_dir}/psql"), shlex.quote(node.bootstrap_script)
        config["bootstrap"] = {
            "dcs": dict(in_lease_store),
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


def bootstrap_sql(verifier: str) -> str:
    """What makes the app's role and database; `verifier` is the role's `scram`."""
    return (
        f"CREATE ROLE {APP_ROLE} LOGIN PASSWORD '{verifier}';\n"
        f"CREATE DATABASE {APP_DATABASE} OWNER {APP_ROLE};\n"
        f"REVOKE CONNECT ON DATABASE {APP_DATABASE} FROM PUBLIC;\n"
    )


def dsn(host: str, port: int, password: str, tls: TlsFiles) -> str:
    """How the app reaches its region's own database; it holds the password."""
    parts = {
        "host": host,
        "port": port,
        "user": APP_ROLE,
        "password": password,
        "dbname": APP_DATABASE,
        "sslmode": "verify-full",
        "sslrootcert": tls.ca,
        "sslcert": tls.cert,
        "sslkey": tls.key,
        "connect_timeout": 5,
    }
    return " ".join(f"{key}={_quoted(str(value))}" for key, value in parts.items())


def scram(password: str, iterations: int = 4096) -> str:
    """PostgreSQL's verifier: the server never sees the password, nor do its logs. Salted: each one is another."""
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
