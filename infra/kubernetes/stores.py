"""A cluster's member of the lease store, and a region's database under Patroni: one pod each, on a volume of its own.

A pod that is alone in its cluster has its copies in the others, so a node is drained only after a switchover: the
disruption budget has the drain wait until somebody says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi
import yaml
from pulumi_kubernetes import apps

from infra import database, lease_store
from infra.database import Node, Passwords
from infra.kubernetes import pods
from infra.kubernetes.part import Cluster, Part, fingerprint
from infra.kubernetes.places import DATA, PORTS, SITES, TLS
from infra.kubernetes.pods import Budget, Process

__all__ = ["Database", "LeaseStore"]

_POSTGRES = "/usr/lib/postgresql/15/bin"
_DATABASE_FILES = "/etc/holdfast/database"


class LeaseStore(Part):
    """One member of the lease store; the others are in the other two clusters."""

    def __init__(
        self, cluster: Cluster, parent: pulumi.Resource | None = None, after: Sequence[pulumi.Resource] = ()
    ) -> None:
        super().__init__("LeaseStore", cluster, parent, after)
        places = cluster.places
        member = lease_store.Member(
            name=cluster.where,
            deployment=places.settings.name,
            data_dir=f"{DATA}/etcd",
            client_url=f"https://{places.inside('lease-store')}:{PORTS['etcd-client']}",
            client_listen=f"https://0.0.0.0:{PORTS['etcd-client']}",
            peer_listen=f"https://0.0.0.0:{PORTS['etcd-peer']}",
            peers={where: places.outside(where, "etcd-peer") for where in SITES},
            tls=TLS,
        )
        process = Process(
            "etcd",
            places.kubernetes.etcd_image,
            # A peer comes from behind its cluster's edge, whatever address its certificate is for.
            ["etcd", *lease_store.arguments(member), "--peer-skip-client-san-verification=true"],
            Budget("100m", "128Mi", "1", "512Mi"),
            # It serves clients only once there is a quorum, for which its peers must find it first.
            pods.answers("etcd-peer"),
            ports={name: PORTS[name] for name in ("etcd-client", "etcd-peer")},
            mounts={DATA: "data", TLS.ca.rpartition("/")[0]: "tls"},
        )
        _alone(self, "lease-store", process, [pods.tls()], {"holdfast.dev/tls": fingerprint(cluster.certificate.key)})
        self.register_outputs({})


class Database(Part):
    """A region's PostgreSQL under Patroni, in synchronous replication with the other region's."""

    def __init__(
        self, cluster: Cluster, parent: pulumi.Resource | None = None, after: Sequence[pulumi.Resource] = ()
    ) -> None:
        super().__init__("Database", cluster, parent, after)
        identity = cluster.identity
        told = pulumi.Output.all(identity.passwords, identity.app_verifier).apply(lambda known: self._told(*known))
        names = ("patroni.yaml", "bootstrap.sql")
        self.secret("database", {name: told.apply(lambda files, n=name: files[n]) for name in names})
        self.secret("database-app", {"app.dsn": told.apply(lambda files: files["app.dsn"])})
        process = Process(
            "postgres",
            cluster.places.kubernetes.image,
            ["python", "-m", "patroni", f"{_DATABASE_FILES}/patroni.yaml"],
            Budget("250m", "512Mi", "2", "2Gi"),
            pods.answers("patroni"),
            ports={name: PORTS[name] for name in ("postgres", "patroni")},
            mounts={
                DATA: "data",
                "/tmp": "tmp",  # noqa: S108
                _DATABASE_FILES: "database",
                TLS.ca.rpartition("/")[0]: "tls",
            },
        )
        volumes = [pods.tls(), pods.files("database", {"database": names}), pods.passing("tmp")]
        seen = {"holdfast.dev/told": fingerprint(told), "holdfast.dev/tls": fingerprint(cluster.certificate.key)}
        _alone(self, "database", process, volumes, seen, stop_seconds=30)
        self.register_outputs({})

    def _told(self, passwords: Mapping[str, str], verifier: str) -> dict[str, str]:
        places = self.cluster.places
        where, client = places.where, "etcd-client"
        node = Node(
            region=where,
            tls=TLS,
            patroni_listen=f"0.0.0.0:{PORTS['patroni']}",
            patroni_address=places.outside(where, "patroni"),
            postgres_listen=f"0.0.0.0:{PORTS['postgres']}",
            postgres_address=places.outside(where, "postgres"),
            lease_store=(
                f"{places.inside('lease-store')}:{PORTS[client]}",
                *(places.outside(other, client) for other in SITES if other != where),
            ),
            data_dir=f"{DATA}/postgres",
            bin_dir=_POSTGRES,
            pgpass=f"{DATA}/pgpass",
            bootstrap_script=f"{_DATABASE_FILES}/bootstrap.sql",
            # A node's own address stands before every connection from another cluster: certificates tell who comes.
            clients=("0.0.0.0/0", "::/0"),
        )
        config = database.configuration(node, Passwords(**passwords), database.dynamic(places.settings.lease))
        return {
            "patroni.yaml": yaml.safe_dump(config, sort_keys=False),
            "bootstrap.sql": database.bootstrap_sql(verifier),
            "app.dsn": database.dsn(places.inside("database"), PORTS["postgres"], passwords["app"], TLS) + "\n",
        }


def _alone(
    part: Part,
    app: str,
    process: Process,
    volumes: Sequence[object],
    annotations: Mapping[str, pulumi.Input[str]],
    stop_seconds: int = 10,
) -> None:
    """A pod that keeps its name and its volume."""
    kubernetes = part.cluster.places.kubernetes
    template = pods.pod(
        app,
        [process],
        volumes,  # type: ignore[arg-type]
        annotations=annotations,
        edge=True,
        stop_seconds=stop_seconds,
    )
    apps.v1.StatefulSet(
        part.named(app),
        metadata=part.metadata(app),
        spec=apps.v1.StatefulSetSpecArgs(
            service_name=app,
            replicas=1,
            selector=pods.selector(app),
            template=template,
            volume_claim_templates=[pods.claim("data", kubernetes.volume_size, kubernetes.storage_class)],
        ),
        opts=part.options(),
    )
    part.service(app, *process.ports)
    part.disruption_budget(app, min_available=1)
