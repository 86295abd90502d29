"""What is outside both regions: the witness, and the world in which the agents' effects happen."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pulumi
from pulumi_kubernetes import apps, core

from infra import processes
from infra.kubernetes import pods
from infra.kubernetes.part import Cluster, Part, fingerprint
from infra.kubernetes.places import CONFIG, DATA, PORTS, RUN, SECRETS, TLS
from infra.kubernetes.pods import Budget, Process
from infra.topology import APP_SECRETS, REGIONS

__all__ = ["Observer", "Payments"]

_LITTLE = Budget("50m", "96Mi", "500m", "256Mi")
_MODERATE = Budget("100m", "128Mi", "1", "512Mi")
_TOKENS = ("payments-token", "provider-token", "control-token", "metrics-token")
_TLS_DIRECTORY = TLS.ca.rpartition("/")[0]


class Observer(Part):
    """The second opinion on who is silent. One alone: its memory is what it is asked for."""

    def __init__(
        self, cluster: Cluster, parent: pulumi.Resource | None = None, after: Sequence[pulumi.Resource] = ()
    ) -> None:
        super().__init__("Observer", cluster, parent, after)
        places, app = cluster.places, "observer"
        targets = {
            region: (f"https://{places.outside(region, 'patroni')}", f"https://{places.outside(region, 'etcd-client')}")
            for region in REGIONS
        }
        told = processes.observer(f"0.0.0.0:{PORTS['observer']}", TLS, targets, f"{RUN}/observer.jsonl")
        files = {"observer.json": json.dumps(told, indent=1)}
        config = core.v1.ConfigMap(self.named(app), metadata=self.metadata(app), data=files, opts=self.options())
        process = Process(
            app,
            places.kubernetes.image,
            pods.python("region_agent.observer", f"{CONFIG}/observer.json"),
            _LITTLE,
            pods.answers("observer"),
            ports={"observer": PORTS["observer"]},
            mounts={RUN: "run", CONFIG: "config", _TLS_DIRECTORY: "tls"},
        )
        apps.v1.Deployment(
            self.named(app),
            metadata=self.metadata(app),
            spec=apps.v1.DeploymentSpecArgs(
                replicas=1,
                strategy=apps.v1.DeploymentStrategyArgs(type="Recreate"),
                selector=pods.selector(app),
                template=pods.pod(
                    app,
                    [process],
                    [pods.tls(), pods.configuration(app), pods.passing("run")],
                    annotations={
                        "holdfast.dev/told": fingerprint(files),
                        "holdfast.dev/tls": fingerprint(cluster.certificate.key),
                    },
                    edge=True,
                ),
            ),
            opts=self.options(config),
        )
        self.service(app, "observer")
        self.disruption_budget(app, max_unavailable=1)
        self.register_outputs({})


class Payments(Part):
    """The payments service, and the simulated model provider where the agents' model asks it."""

    def __init__(
        self, cluster: Cluster, parent: pulumi.Resource | None = None, after: Sequence[pulumi.Resource] = ()
    ) -> None:
        super().__init__("Payments", cluster, parent, after)
        places, app = cluster.places, "payments"
        secrets = {name: f"{SECRETS}/{name}" for name in APP_SECRETS}
        listen = {name: f"0.0.0.0:{PORTS[name]}" for name in ("payments", "provider")}
        told = processes.payments(places.settings, TLS, secrets, listen, f"{DATA}/ledger.sqlite")
        files = {f"{name}.json": json.dumps(content, indent=1) for name, content in told.items()}
        config = core.v1.ConfigMap(self.named(app), metadata=self.metadata(app), data=files, opts=self.options())
        servers = [
            Process(
                name,
                places.kubernetes.image,
                pods.python(f"refund_desk.{name}", f"{CONFIG}/{name}.json"),
                _MODERATE,
                pods.answers(name),
                ports={name: PORTS[name]},
                mounts={DATA: "data", CONFIG: "config", SECRETS: "secrets", _TLS_DIRECTORY: "tls"},
            )
            for name in told
        ]
        volumes = [
            pods.tls(),
            pods.configuration(app),
            pods.files("secrets", {"app-secrets": [*_TOKENS]}),
        ]
        apps.v1.StatefulSet(
            self.named(app),
            metadata=self.metadata(app),
            spec=apps.v1.StatefulSetSpecArgs(
                service_name=app,
                replicas=1,
                selector=pods.selector(app),
                template=pods.pod(
                    app,
                    servers,
                    volumes,
                    annotations={
                        "holdfast.dev/told": fingerprint(files),
                        "holdfast.dev/tls": fingerprint(cluster.certificate.key),
                    },
                    edge=True,
                ),
                volume_claim_templates=[pods.claim("data", "1Gi", places.kubernetes.storage_class)],
            ),
            opts=self.options(config),
        )
        self.service(app, *told)
        self.disruption_budget(app, max_unavailable=1)
        self.register_outputs({})
