"""One concern in one cluster: everything that it declares uses that cluster's provider, and no other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes import core, meta, policy

from infra.kubernetes.identity import Certificate, Identity
from infra.kubernetes.places import PORTS, Places

__all__ = ["Cluster", "Part", "fingerprint", "labels"]


@dataclass(frozen=True)
class Cluster:
    """What every part of one cluster is made with."""

    places: Places
    provider: kubernetes.Provider
    identity: Identity
    certificate: Certificate
    """The cluster's own, for servers and clients in it."""

    @property
    def where(self) -> str:
        return self.places.where


def labels(app: str) -> dict[str, str]:
    """What marks the pods of one app."""
    return {"app.kubernetes.io/name": app, "app.kubernetes.io/part-of": "holdfast"}


def fingerprint(content: pulumi.Input[object]) -> pulumi.Output[str]:
    """Changes with the content, so that pods that read it are replaced; it tells nothing of it."""
    digest = pulumi.Output.from_input(content).apply(
        lambda known: hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
    )
    return pulumi.Output.unsecret(digest)


class Part(pulumi.ComponentResource):
    """One concern in one cluster, named after both."""

    def __init__(
        self,
        kind: str,
        cluster: Cluster,
        parent: pulumi.Resource | None = None,
        after: Sequence[pulumi.Resource] = (),
    ) -> None:
        here = pulumi.ResourceOptions(parent=parent, providers={"kubernetes": cluster.provider})
        super().__init__(f"holdfast:kubernetes:{kind}", f"{kind.lower()}-{cluster.where}", {}, here)
        self.cluster = cluster
        self.after = list(after)

    def options(self, *after: pulumi.Resource) -> pulumi.ResourceOptions:
        """For what belongs to this part: a component's own dependencies are not its children's."""
        return pulumi.ResourceOptions(parent=self, depends_on=[*self.after, *after])

    def named(self, name: str) -> str:
        """A name that no other resource of the program has."""
        return f"{name}-{self.cluster.where}"

    def metadata(
        self, name: str, app: str | None = None, annotations: Mapping[str, str] | None = None
    ) -> meta.v1.ObjectMetaArgs:
        """In the deployment's namespace."""
        return meta.v1.ObjectMetaArgs(
            name=name,
            namespace=self.cluster.places.namespace,
            labels=labels(app or name),
            annotations=dict(annotations) if annotations else None,
        )

    def secret(self, name: str, files: Mapping[str, pulumi.Input[str]]) -> core.v1.Secret:
        return core.v1.Secret(
            self.named(name),
            metadata=self.metadata(name),
            string_data=pulumi.Output.secret(dict(files)),
            opts=self.options(),
        )

    def service(self, app: str, *ports: str, pods: Mapping[str, str] | None = None) -> core.v1.Service:
        """A fixed address within the cluster, also while the pods are not ready: Patroni and etcd need it then."""
        return core.v1.Service(
            self.named(app),
            metadata=self.metadata(app),
            spec=core.v1.ServiceSpecArgs(
                selector=dict(pods or labels(app)),
                publish_not_ready_addresses=True,
                ports=[core.v1.ServicePortArgs(name=port, port=PORTS[port], target_port=port) for port in ports],
            ),
            opts=self.options(),
        )

    def disruption_budget(
        self, app: str, *, min_available: int | None = None, max_unavailable: int | None = None
    ) -> policy.v1.PodDisruptionBudget:
        return policy.v1.PodDisruptionBudget(
            self.named(app),
            metadata=self.metadata(app),
            spec=policy.v1.PodDisruptionBudgetSpecArgs(
                selector=meta.v1.LabelSelectorArgs(match_labels=labels(app)),
                min_available=min_available,
                max_unavailable=max_unavailable,
            ),
            opts=self.options(),
        )
