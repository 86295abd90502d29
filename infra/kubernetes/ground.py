"""What a cluster has before anything runs in it: a namespace in which nothing is allowed that was not asked for."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
from pulumi_kubernetes import core, meta, networking

from infra.kubernetes.part import Cluster, Part
from infra.kubernetes.places import CONTROL_PLANE, NODE_PORTS, PORTS
from infra.kubernetes.pods import EDGE, selector
from infra.topology import APP_SECRETS

__all__ = ["Ground"]

_RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}


class Ground(Part):
    """The namespace with its network policies, the edge, and the cluster's own secrets."""

    def __init__(self, cluster: Cluster, parent: pulumi.Resource | None = None) -> None:
        super().__init__("Ground", cluster, parent)
        places, identity = cluster.places, cluster.identity
        self.namespace = core.v1.Namespace(
            self.named("namespace"),
            metadata=meta.v1.ObjectMetaArgs(name=places.namespace, labels=_RESTRICTED),
            opts=self.options(),
        )
        self.after = [self.namespace]
        self._edge()
        self._network()
        self.secret(
            "tls",
            {
                "ca.crt": identity.root_certificate,
                "tls.crt": cluster.certificate.certificate,
                "tls.key": cluster.certificate.key,
            },
        )
        self.secret("app-secrets", {name: identity.token(name) for name in (*APP_SECRETS, "dapr-api-token")})
        # Under the key by which Dapr looks for it.
        self.secret("dapr-api-token", {"token": identity.token("dapr-api-token")})
        self.register_outputs({})

    def _edge(self) -> None:
        """The one service by which the other clusters reach this one."""
        places = self.cluster.places
        balanced = places.kubernetes.exposure == "LoadBalancer"
        annotations = dict(pair.split("=", 1) for pair in places.kubernetes.edge_annotations)
        core.v1.Service(
            self.named("edge"),
            metadata=self.metadata("edge", annotations=annotations),
            spec=core.v1.ServiceSpecArgs(
                type=places.kubernetes.exposure,
                selector=EDGE,
                # Members of the lease store must find each other before any of them can be ready.
                publish_not_ready_addresses=True,
                load_balancer_source_ranges=list(places.kubernetes.allowed_ranges) if balanced else None,
                ports=[
                    core.v1.ServicePortArgs(
                        name=name,
                        port=PORTS[name],
                        # By name: a pod that has no such port is not behind it.
                        target_port=name,
                        node_port=None if balanced else NODE_PORTS[name],
                    )
                    for name in places.edge
                ],
            ),
            opts=self.options(),
        )

    def _network(self) -> None:
        everyone = meta.v1.LabelSelectorArgs(match_labels={})
        places = self.cluster.places
        # Where the others' edges are is known by name, which a policy does not take: it takes an edge's ports.
        ports = NODE_PORTS if places.kubernetes.exposure == "NodePort" else PORTS
        others = [_port(port) for name, port in ports.items() if name in NODE_PORTS]
        ours = networking.v1.NetworkPolicyPeerArgs(pod_selector=everyone)
        self._deny_all(everyone)
        self._allow("among-ourselves", everyone, ingress=_from([ours]), egress=_to([ours]))
        self._allow("names", everyone, egress=_to([_namespace("kube-system")], [_port(53, "UDP"), _port(53)]))
        self._allow(
            "edge",
            meta.v1.LabelSelectorArgs(match_labels=EDGE),
            ingress=_from(
                [_range(one) for one in places.kubernetes.allowed_ranges],
                [_port(PORTS[name]) for name in places.edge],
            ),
        )
        self._allow("other-sites", everyone, egress=_to([_ANYWHERE], others))
        if self.cluster.where == "w":
            return
        self._allow("control-plane", everyone, egress=_to([_namespace(CONTROL_PLANE)]))
        self._allow("cluster-api", selector("region-agent"), egress=_to([_ANYWHERE], [_port(443), _port(6443)]))
        if not places.settings.model.startswith("refund_desk:"):
            self._allow("models", selector("worker"), egress=_to([_ANYWHERE], [_port(443)]))

    def _deny_all(self, pods: meta.v1.LabelSelectorArgs) -> None:
        self._policy("deny-all", pods, ["Ingress", "Egress"], None, None)

    def _allow(
        self,
        name: str,
        pods: meta.v1.LabelSelectorArgs,
        *,
        ingress: networking.v1.NetworkPolicyIngressRuleArgs | None = None,
        egress: networking.v1.NetworkPolicyEgressRuleArgs | None = None,
    ) -> None:
        types = [kind for kind, rule in (("Ingress", ingress), ("Egress", egress)) if rule is not None]
        self._policy(name, pods, types, [ingress] if ingress else None, [egress] if egress else None)

    def _policy(
        self,
        name: str,
        pods: meta.v1.LabelSelectorArgs,
        types: Sequence[str],
        ingress: Sequence[networking.v1.NetworkPolicyIngressRuleArgs] | None,
        egress: Sequence[networking.v1.NetworkPolicyEgressRuleArgs] | None,
    ) -> None:
        networking.v1.NetworkPolicy(
            self.named(name),
            metadata=self.metadata(name, "network"),
            spec=networking.v1.NetworkPolicySpecArgs(
                pod_selector=pods, policy_types=list(types), ingress=ingress, egress=egress
            ),
            opts=self.options(),
        )


def _from(
    peers: Sequence[networking.v1.NetworkPolicyPeerArgs],
    ports: Sequence[networking.v1.NetworkPolicyPortArgs] | None = None,
) -> networking.v1.NetworkPolicyIngressRuleArgs:
    return networking.v1.NetworkPolicyIngressRuleArgs(from_=peers, ports=ports)


def _to(
    peers: Sequence[networking.v1.NetworkPolicyPeerArgs],
    ports: Sequence[networking.v1.NetworkPolicyPortArgs] | None = None,
) -> networking.v1.NetworkPolicyEgressRuleArgs:
    return networking.v1.NetworkPolicyEgressRuleArgs(to=peers, ports=ports)


def _port(number: int, protocol: str = "TCP") -> networking.v1.NetworkPolicyPortArgs:
    return networking.v1.NetworkPolicyPortArgs(port=number, protocol=protocol)


def _range(cidr: str) -> networking.v1.NetworkPolicyPeerArgs:
    return networking.v1.NetworkPolicyPeerArgs(ip_block=networking.v1.IPBlockArgs(cidr=cidr))


def _namespace(name: str) -> networking.v1.NetworkPolicyPeerArgs:
    selected = meta.v1.LabelSelectorArgs(match_labels={"kubernetes.io/metadata.name": name})
    return networking.v1.NetworkPolicyPeerArgs(namespace_selector=selected)


_ANYWHERE = _range("0.0.0.0/0")
