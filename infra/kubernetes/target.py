"""Two regions and a witness on three Kubernetes clusters: `kind` and `cloud` differ only in configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from infra.kubernetes.agents import Api, RegionAgent, ToolHost, Workers
from infra.kubernetes.dapr import ControlPlane, SidecarSettings
from infra.kubernetes.ground import Ground
from infra.kubernetes.identity import Certificate, Identity
from infra.kubernetes.outside import Observer, Payments
from infra.kubernetes.part import Cluster
from infra.kubernetes.places import DATA, SITES, Places
from infra.kubernetes.stores import Database, LeaseStore
from infra.region import Foundation, Region, RegionArgs
from infra.topology import Kubernetes, Settings

__all__ = ["KubernetesFoundation", "KubernetesRegion", "KubernetesTarget", "Witness"]


class Witness(pulumi.ComponentResource):
    """The third cluster: a vote on the lease, a second opinion on silence, and the world outside."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__("holdfast:kubernetes:Witness", "witness", {}, _of(cluster))
        ground = Ground(cluster, self)
        LeaseStore(cluster, self, [ground])
        Observer(cluster, self, [ground])
        self.payments = Payments(cluster, self, [ground])
        self.register_outputs({})


class KubernetesRegion(Region):
    """A region in a cluster of its own."""

    def __init__(self, args: RegionArgs, cluster: Cluster) -> None:
        super().__init__(args, _of(cluster))
        places = cluster.places
        ground = Ground(cluster, self)
        issuer = Certificate(
            f"issuer-{args.region}",
            cluster.identity,
            authority=True,
            opts=pulumi.ResourceOptions(parent=self),
        )
        dapr = ControlPlane(cluster, issuer, self)
        LeaseStore(cluster, self, [ground])
        database = Database(cluster, self, [ground])
        sidecars = SidecarSettings(cluster, self, [ground, dapr])
        Workers(cluster, self, [ground, sidecars, database])
        if places.kubernetes.tool_host:
            ToolHost(cluster, self, [ground, sidecars, database])
        RegionAgent(cluster, self, [ground, dapr, database])
        Api(cluster, self, [ground, database])
        self.api = pulumi.Output.from_input(f"https://{places.outside(args.region, 'api')}")
        self.agent = pulumi.Output.from_input(f"https://{places.outside(args.region, 'agent')}")
        self.register_outputs({"api": self.api, "agent": self.agent})


@dataclass(frozen=True)
class KubernetesFoundation(Foundation):
    """The same, with the clusters that the regions are made in."""

    clusters: Sequence[Cluster] = ()

    def cluster(self, where: str) -> Cluster:
        return next(cluster for cluster in self.clusters if cluster.where == where)


class KubernetesTarget:
    """Three clusters, each reached by a context of the user's own kubeconfig, and nothing by a default one.

    The regions start side by side with the witness: the lease store has a quorum only when two of the three are up.
    """

    def __init__(self, configuration: Kubernetes) -> None:
        self.kubernetes = configuration

    def check(self) -> None:
        """Nothing to build here: images, clusters and Pulumi's own plugins are the user's."""

    def foundation(self, settings: Settings) -> Foundation:
        identity = Identity("identity")
        clusters = [self._cluster(where, settings, identity) for where in SITES]
        witness = Witness(clusters[-1])
        return KubernetesFoundation(
            root=identity,
            payments=witness.payments,
            witness=witness,
            manifest=pulumi.Output.from_input(self._manifest(settings)),
            clusters=clusters,
        )

    def region(self, args: RegionArgs) -> Region:
        assert isinstance(args.foundation, KubernetesFoundation)
        return KubernetesRegion(args, args.foundation.cluster(args.region))

    def who_is_active(self, settings: Settings) -> str:
        where = f"--context {self.kubernetes.context_a} -n {self.kubernetes.namespace}"
        return f"kubectl {where} exec region-agent-0 -c region-agent -- cat {DATA}/role.json"

    def _cluster(self, where: str, settings: Settings, identity: Identity) -> Cluster:
        places = Places(settings, self.kubernetes, where)
        provider = kubernetes.Provider(SITES[where], context=self.kubernetes.context(where))
        return Cluster(places, provider, identity, Certificate(SITES[where], identity, places.hosts))

    def _manifest(self, settings: Settings) -> str:
        """Where each part answers from outside its cluster, and no secret."""
        found: dict[str, object] = {}
        for where, name in SITES.items():
            places = Places(settings, self.kubernetes, where)
            found[name] = {
                "context": self.kubernetes.context(where),
                **{port: places.outside(where, port) for port in places.edge},
            }
        return json.dumps({"name": settings.name, "namespace": self.kubernetes.namespace, **found})


def _of(cluster: Cluster) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions(providers={"kubernetes": cluster.provider})
