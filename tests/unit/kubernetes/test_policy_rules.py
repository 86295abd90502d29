"""The policies hold over what the program declares, and each of them notices what it is about."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from infra.policies.rules import EACH, WHOLE, Resource
from tests.support.declared import Declared, Program, plain

pytestmark = pytest.mark.unit


def seen(one: Declared) -> Resource:
    return Resource(one.type, one.name, one.provider, plain(one.inputs))


@pytest.fixture
def resources(declared: Program) -> list[Resource]:
    return copy.deepcopy([seen(one) for one in declared.resources])


def named(resources: list[Resource], name: str, kind: str = "") -> Any:
    """The properties of one resource, to be changed."""
    return next(one.props for one in resources if one.name == name and kind in (one.kind, ""))


def problems(resources: list[Resource]) -> dict[str, list[str]]:
    """What each rule says, the silent ones left out."""
    said = {name: [problem for one in resources for problem in rule(one)] for name, rule in EACH.items()}
    said |= {name: list(rule(resources)) for name, rule in WHOLE.items()}
    return {name: found for name, found in said.items() if found}


def test_what_the_program_declares_is_within_every_policy(resources: list[Resource]) -> None:
    assert problems(resources) == {}


def container(resources: list[Resource]) -> Any:
    return named(resources, "api-a", "Deployment")["spec"]["template"]["spec"]["containers"][0]


def context(resources: list[Resource]) -> Any:
    return container(resources)["securityContext"]


Change = Callable[[list[Resource]], object]
CHANGES: list[tuple[str, str, Change]] = [
    ("unprivileged", "may run as root", lambda all_: context(all_).update(runAsNonRoot=False)),
    ("unprivileged", "may run as root", lambda all_: context(all_).update(runAsUser=0)),
    ("unprivileged", "may become privileged", lambda all_: context(all_).pop("allowPrivilegeEscalation")),
    ("unprivileged", "can write to its image", lambda all_: context(all_).update(readOnlyRootFilesystem=False)),
    ("unprivileged", "keeps capabilities", lambda all_: context(all_).pop("capabilities")),
    (
        "unprivileged",
        "have hostNetwork",
        lambda all_: named(all_, "api-a", "Deployment")["spec"]["template"]["spec"].update(hostNetwork=True),
    ),
    ("bounded", "has no limits", lambda all_: container(all_)["resources"].pop("limits")),
    ("bounded", "has no livenessProbe", lambda all_: container(all_).pop("livenessProbe")),
    ("pinned", "and not latest", lambda all_: container(all_).update(image="example.org:5000/holdfast")),
    ("pinned", "and not latest", lambda all_: container(all_).update(image="example.org/holdfast:latest")),
    ("pinned", "chart has no version", lambda all_: named(all_, "dapr-a").pop("version")),
    (
        "secure-dapr",
        "mTLS is off",
        lambda all_: named(all_, "dapr-b")["values"]["global"]["mtls"].update(enabled=False),
    ),
    (
        "secure-dapr",
        "histories are not signed",
        lambda all_: named(all_, "configuration-holdfast-a")["spec"].update(features=[]),
    ),
    (
        "secure-dapr",
        "connectionString holds a password",
        lambda all_: named(all_, "component-statestore-a")["spec"]["metadata"][0].update(value="password=x"),
    ),
    (
        "secrets-apart",
        "app.json holds a secret",
        lambda all_: named(all_, "api-a", "ConfigMap")["data"].update({"app.json": "password=x"}),
    ),
    ("closed-namespaces", "namespace holdfast of region-a", lambda all_: all_.remove(one(all_, "deny-all-a"))),
    (
        "same-in-both-regions",
        "differ in their trust domain",
        lambda all_: named(all_, "dapr-b")["values"]["global"]["mtls"].update(controlPlaneTrustDomain="other"),
    ),
    (
        "same-in-both-regions",
        "differ in their root certificate",
        lambda all_: named(all_, "dapr-b")["values"]["dapr_sentry"]["tls"]["root"].update(certPEM="another"),
    ),
    (
        "policies-present",
        "no WorkflowAccessPolicy",
        lambda all_: all_.remove(one(all_, "workflowaccesspolicy-agents-b")),
    ),
]


def one(resources: list[Resource], name: str) -> Resource:
    return next(one for one in resources if one.name == name)


@pytest.mark.parametrize(
    ("rule", "reason", "change"), CHANGES, ids=[f"{rule}: {reason}" for rule, reason, _ in CHANGES]
)
def test_a_change_for_the_worse_is_a_violation(
    resources: list[Resource], rule: str, reason: str, change: Change
) -> None:
    change(resources)
    found = problems(resources)
    assert set(found) == {rule}
    assert any(reason in problem for problem in found[rule])


def test_an_app_id_that_only_one_region_has_is_a_violation(resources: list[Resource]) -> None:
    annotations = named(resources, "worker-b", "StatefulSet")["spec"]["template"]["metadata"]["annotations"]
    annotations["dapr.io/app-id"] = "other"
    found = problems(resources)
    assert set(found) == {"same-in-both-regions", "policies-present"}


def test_a_default_provider_is_a_violation(resources: list[Resource]) -> None:
    stray = Resource("kubernetes:core/v1:ConfigMap", "stray", "default_4_34_2", {"kind": "ConfigMap"})
    assert problems([*resources, stray]) == {"own-provider": ["it uses Pulumi's default provider: name its cluster's"]}


def test_what_is_not_known_yet_is_no_violation() -> None:
    kinds = ("Deployment", "Pod", "ConfigMap", "NetworkPolicy", "Component", "WorkflowAccessPolicy")
    unknown = [
        Resource("kubernetes:x:y", kind, "region-a", {"kind": kind, "apiVersion": "dapr.io/v1alpha1"}) for kind in kinds
    ]
    release = Resource("kubernetes:helm.sh/v3:Release", "other", "region-a", {"name": "other"})
    assert set(problems([*unknown, release])) == {"closed-namespaces"}
