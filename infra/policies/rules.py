"""What must hold over a deployment on Kubernetes, as plain functions: each tells what is wrong, or nothing.

`__main__.py` makes a policy pack of them. They see what Pulumi is about to send, so a value that is not known before
the deployment is missing here: such a value is no violation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["EACH", "WHOLE", "Resource"]

_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job")
_RELEASE = "kubernetes:helm.sh/v3:Release"


@dataclass(frozen=True)
class Resource:
    """One resource as Pulumi has it; `provider` is its provider's name."""

    type: str
    name: str
    provider: str
    props: Mapping[str, Any]

    @property
    def kind(self) -> str:
        return str(self.props.get("kind") or "")

    @property
    def namespace(self) -> str:
        return str((self.props.get("metadata") or {}).get("namespace") or "")


def own_provider(one: Resource) -> Iterator[str]:
    """A resource that names no cluster goes to the one that a kubeconfig happens to name."""
    if one.type.startswith("kubernetes:") and one.provider.startswith("default"):
        yield "it uses Pulumi's default provider: name its cluster's"


def unprivileged(one: Resource) -> Iterator[str]:
    """Nothing runs as root, becomes more than it was, or writes to its image."""
    spec = _pod(one).get("spec") or {}
    if not spec:
        return
    for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(forbidden):
            yield f"its pods have {forbidden}"
    of_pod = spec.get("securityContext") or {}
    for name, container in _containers(one):
        context = {**of_pod, **(container.get("securityContext") or {})}
        if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
            yield f"container {name} may run as root: runAsNonRoot"
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"container {name} may become privileged: allowPrivilegeEscalation: false"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"container {name} can write to its image: readOnlyRootFilesystem"
        if "ALL" not in ((context.get("capabilities") or {}).get("drop") or ()):
            yield f"container {name} keeps capabilities: drop ALL"


def bounded(one: Resource) -> Iterator[str]:
    """Every container has requests, limits and probes."""
    for name, container in _containers(one):
        resources = container.get("resources") or {}
        for what in ("requests", "limits"):
            if not {"cpu", "memory"} <= (resources.get(what) or {}).keys():
                yield f"container {name} has no {what} of CPU and memory"
        for probe in ("readinessProbe", "livenessProbe"):
            if one.kind != "Job" and not container.get(probe):
                yield f"container {name} has no {probe}"


def pinned(one: Resource) -> Iterator[str]:
    """Every image and chart is one version."""
    for name, container in _containers(one):
        image = str(container.get("image") or "")
        tag = image.rpartition("/")[2].partition(":")[2]
        if image and (not tag or tag == "latest"):
            yield f"container {name} runs {image}: give it a tag or a digest, and not latest"
    if one.type == _RELEASE and one.props.get("repositoryOpts") and not one.props.get("version"):
        yield "its chart has no version"


def secure_dapr(one: Resource) -> Iterator[str]:
    """Dapr's control plane has mTLS, its sidecars sign histories, and no component holds a password."""
    if one.type == _RELEASE and one.props.get("name") == "dapr":
        mtls = ((one.props.get("values") or {}).get("global") or {}).get("mtls") or {}
        if mtls.get("enabled") is not True:
            yield "mTLS is off"
    spec = one.props.get("spec") or {}
    if not str(one.props.get("apiVersion") or "").startswith("dapr.io/"):
        return
    if one.kind == "Configuration":
        on = [feature.get("name") for feature in spec.get("features") or () if feature.get("enabled") is True]
        if "WorkflowHistorySigning" not in on:
            yield "histories are not signed: feature WorkflowHistorySigning"
    if one.kind == "Component":
        for entry in spec.get("metadata") or ():
            if "password" in str(entry.get("value") or "").lower():
                yield f"{entry.get('name')} holds a password: use secretKeyRef"


def secrets_apart(one: Resource) -> Iterator[str]:
    """No key and no password is in a config map."""
    if one.kind == "ConfigMap":
        for name, content in (one.props.get("data") or {}).items():
            if "PRIVATE KEY" in str(content) or "password=" in str(content):
                yield f"{name} holds a secret: use a Secret"


def closed_namespaces(all_: Sequence[Resource]) -> Iterator[str]:
    """Where there are pods, nothing is let in or out that no policy allows."""
    closed = {
        (one.provider, one.namespace)
        for one in all_
        if one.kind == "NetworkPolicy" and _denies_all(one.props.get("spec") or {})
    }
    for place in sorted({(one.provider, one.namespace) for one in all_ if one.kind in _WORKLOADS} - closed):
        yield f"namespace {place[1]} of {place[0]} has pods and no network policy that denies everything else"


def same_in_both_regions(all_: Sequence[Resource]) -> Iterator[str]:
    """App ids, namespaces, trust domain and root are the same, else a standby can't go on with what was begun."""
    releases = [one for one in all_ if one.type == _RELEASE and one.props.get("name") == "dapr"]
    said: dict[str, dict[str, object]] = {"trust domain": {}, "root certificate": {}, "app ids and namespaces": {}}
    for one in releases:
        values = one.props.get("values") or {}
        tls = (values.get("dapr_sentry") or {}).get("tls") or {}
        said["trust domain"][one.provider] = (values.get("global") or {}).get("mtls", {}).get("controlPlaneTrustDomain")
        said["root certificate"][one.provider] = (tls.get("root") or {}).get("certPEM")
        said["app ids and namespaces"][one.provider] = sorted(
            f"{other.namespace}/{app}" for other in all_ if other.provider == one.provider and (app := _app_id(other))
        )
    for what, by_region in said.items():
        if len({str(value) for value in by_region.values()}) > 1:
            yield f"the regions {' and '.join(sorted(by_region))} differ in their {what}"


def policies_present(all_: Sequence[Resource]) -> Iterator[str]:
    """Nobody starts the work of an app that no access policy is about."""
    covered = {
        (one.provider, one.namespace, scope)
        for one in all_
        if one.kind == "WorkflowAccessPolicy"
        for scope in one.props.get("scopes") or ()
    }
    for one in all_:
        app = _app_id(one)
        if app and (one.provider, one.namespace, app) not in covered:
            yield f"app {app} of {one.provider} has no WorkflowAccessPolicy"


EACH: Mapping[str, Callable[[Resource], Iterator[str]]] = {
    "own-provider": own_provider,
    "unprivileged": unprivileged,
    "bounded": bounded,
    "pinned": pinned,
    "secure-dapr": secure_dapr,
    "secrets-apart": secrets_apart,
}
"""What must hold for each resource by itself."""

WHOLE: Mapping[str, Callable[[Sequence[Resource]], Iterator[str]]] = {
    "closed-namespaces": closed_namespaces,
    "same-in-both-regions": same_in_both_regions,
    "policies-present": policies_present,
}
"""What must hold between all of them."""


def _pod(one: Resource) -> Mapping[str, Any]:
    if one.kind == "Pod":
        return one.props
    return ((one.props.get("spec") or {}).get("template") or {}) if one.kind in _WORKLOADS else {}


def _containers(one: Resource) -> Iterator[tuple[str, Mapping[str, Any]]]:
    spec = _pod(one).get("spec") or {}
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        yield str(container.get("name")), container


def _app_id(one: Resource) -> str:
    annotations = (_pod(one).get("metadata") or {}).get("annotations") or {}
    return str(annotations.get("dapr.io/app-id") or "")


def _denies_all(spec: Mapping[str, Any]) -> bool:
    everyone = not (spec.get("podSelector") or {}).get("matchLabels")
    return (
        everyone
        and set(spec.get("policyTypes") or ()) == {"Ingress", "Egress"}
        and not (spec.get("ingress") or spec.get("egress"))
    )
