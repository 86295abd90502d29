"""A region's Dapr: its control plane by Dapr's own chart, and what the sidecars are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pulumi
from pulumi_kubernetes import core, helm, meta

from infra.kubernetes.identity import CONTROL_TRUST_DOMAIN, Certificate
from infra.kubernetes.part import Cluster, Part, labels
from infra.kubernetes.places import CONTROL_PLANE
from infra.processes import APP_ID
from infra.sidecars import FEATURES, state_store

__all__ = ["CHART_VERSION", "TOOLS_APP_ID", "ControlPlane", "SidecarSettings", "sidecar_annotations"]

CHART_VERSION = "1.18.0"
_REPOSITORY = "https://dapr.github.io/helm-charts/"

TOOLS_APP_ID = f"{APP_ID}-tools"
"""The tool host's: another identity than the agents'."""

_SMALL = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
_API = "dapr.io/v1alpha1"
_STORE_SECONDS = 30


class ControlPlane(Part):
    """Dapr's control plane under the shared root, with the region's own issuer."""

    def __init__(self, cluster: Cluster, issuer: Certificate, parent: pulumi.Resource | None = None) -> None:
        super().__init__("ControlPlane", cluster, parent)
        kubernetes = cluster.places.kubernetes
        namespace = core.v1.Namespace(
            self.named(CONTROL_PLANE),
            metadata=meta.v1.ObjectMetaArgs(
                name=CONTROL_PLANE, labels={"pod-security.kubernetes.io/enforce": "baseline"}
            ),
            opts=self.options(),
        )
        from_repository = kubernetes.dapr_chart if _is_name(kubernetes.dapr_chart) else None
        self.release = helm.v3.Release(
            self.named("dapr"),
            name="dapr",
            chart=kubernetes.dapr_chart,
            version=CHART_VERSION if from_repository else None,
            repository_opts=helm.v3.RepositoryOptsArgs(repo=_REPOSITORY) if from_repository else None,
            namespace=namespace.metadata["name"],
            values=self._values(issuer),
            opts=self.options(namespace),
        )
        self.register_outputs({})

    def _values(self, issuer: Certificate) -> Mapping[str, object]:
        kubernetes = self.cluster.places.kubernetes
        volume = {"storageClassName": kubernetes.storage_class, "storageSize": kubernetes.volume_size}
        return {
            "global": {
                "registry": kubernetes.dapr_registry,
                "tag": CHART_VERSION,
                "logAsJson": True,
                "ha": {"enabled": kubernetes.highly_available},
                "mtls": {"enabled": True, "controlPlaneTrustDomain": CONTROL_TRUST_DOMAIN},
                "seccompProfile": "RuntimeDefault",
            },
            "dapr_sentry": {
                "tls": {
                    "root": {"certPEM": self.cluster.identity.root_certificate},
                    "issuer": {"certPEM": issuer.certificate, "keyPEM": issuer.key},
                },
                "resources": _SMALL,
            },
            "dapr_scheduler": {"cluster": volume, "resources": _SMALL},
            "dapr_placement": {"resources": _SMALL},
            "dapr_operator": {"resources": _SMALL},
            "dapr_sidecar_injector": {
                "resources": _SMALL,
                "sidecarRunAsNonRoot": True,
                "sidecarReadOnlyRootFilesystem": True,
                "sidecarDropALLCapabilities": True,
                # A pod without its sidecar does nothing and says so to nobody; other namespaces are left alone.
                "webhookFailurePolicy": "Fail",
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.cluster.places.namespace}},
            },
        }


class SidecarSettings(Part):
    """The state store, signing, tracing, retention, resiliency, and who may start which workflow and activity."""

    def __init__(
        self, cluster: Cluster, parent: pulumi.Resource | None = None, after: Sequence[pulumi.Resource] = ()
    ) -> None:
        super().__init__("SidecarSettings", cluster, parent, after)
        kubernetes = cluster.places.kubernetes
        apps = [APP_ID, *([TOOLS_APP_ID] if kubernetes.tool_host else [])]
        connection = {"secretKeyRef": {"name": "database-app", "key": "app.dsn"}}
        self._declare(
            "Component",
            "statestore",
            state_store(connection),
            auth={"secretStore": "kubernetes"},
            scopes=apps,
        )
        self._declare("Configuration", "holdfast", self._configuration())
        self._declare("Resiliency", "holdfast", _RESILIENCY, scopes=apps)
        self._declare("WorkflowAccessPolicy", "agents", {"rules": [_own_workflows()]}, scopes=[APP_ID])
        if kubernetes.tool_host:
            rules = [{"callers": [{"appID": APP_ID}], "activities": [{"name": n} for n in kubernetes.tool_activities]}]
            self._declare("WorkflowAccessPolicy", "tools", {"rules": rules}, scopes=[TOOLS_APP_ID])
        self.register_outputs({})

    def _configuration(self) -> dict[str, object]:
        kubernetes = self.cluster.places.kubernetes
        tracing: dict[str, object] = {"samplingRate": f"{kubernetes.trace_sampling:g}"}
        if kubernetes.trace_endpoint:
            secure = not kubernetes.trace_endpoint.startswith("http://")
            address = kubernetes.trace_endpoint.partition("://")[2] or kubernetes.trace_endpoint
            tracing["otel"] = {"endpointAddress": address, "isSecure": secure, "protocol": "grpc"}
        spec: dict[str, object] = {"features": FEATURES, "tracing": tracing}
        if kubernetes.retention:
            spec["workflow"] = {"stateRetentionPolicy": {"anyTerminal": kubernetes.retention}}
        return spec

    def _declare(self, kind: str, name: str, spec: Mapping[str, object], **beside: object) -> None:
        # The class for custom resources of pulumi-kubernetes knows nothing beside a specification.
        content: dict[str, object] = {
            "apiVersion": _API,
            "kind": kind,
            "metadata": {"name": name, "namespace": self.cluster.places.namespace, "labels": labels("dapr")},
            "spec": dict(spec),
            **beside,
        }
        pulumi.CustomResource(
            f"kubernetes:{_API}:{kind}", self.named(f"{kind.lower()}-{name}"), content, self.options()
        )


_RESILIENCY: Mapping[str, object] = {
    # Retries are the driver's affair: here a call only must not wait for ever, as a commit does without its standby.
    "policies": {"timeouts": {"store": f"{_STORE_SECONDS}s"}},
    "targets": {"components": {"statestore": {"outbound": {"timeout": "store"}}}},
}


def _own_workflows() -> dict[str, object]:
    every = ["schedule", "terminate", "raise", "pause", "resume", "purge", "get", "rerun"]
    return {
        "callers": [{"appID": APP_ID}],
        "workflows": [{"name": "*", "operations": every}],
        "activities": [{"name": "*"}],
    }


def sidecar_annotations(app_id: str, app_port: int | None, max_body_size: str) -> dict[str, str]:
    """What has the injector give a pod its sidecar. The volume `tls` is the pod's."""
    asked: dict[str, str] = {
        "enabled": "true",
        "app-id": app_id,
        "config": "holdfast",
        "max-body-size": max_body_size,
        "api-token-secret": "dapr-api-token",
        "app-token-secret": "dapr-api-token",
        "volume-mounts": "tls:/etc/holdfast/tls",
        "disable-builtin-k8s-secret-store": "true",
        "sidecar-seccomp-profile-type": "RuntimeDefault",
        "sidecar-cpu-request": "100m",
        "sidecar-memory-request": "128Mi",
        "sidecar-cpu-limit": "1",
        "sidecar-memory-limit": "512Mi",
        # A worker that is told to stop leaves at once, and its sidecar with it.
        "graceful-shutdown-seconds": "1",
        "log-level": "info",
        "log-as-json": "true",
    }
    if app_port is not None:
        asked |= {"app-port": str(app_port), "app-protocol": "http"}
    return {f"dapr.io/{name}": value for name, value in asked.items()}


def _is_name(chart: str) -> bool:
    return "/" not in chart and not Path(chart).exists()
