"""What must hold over everything that the program declares, whatever it declares next."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from cryptography import x509

from infra.kubernetes.identity import CONTROL_TRUST_DOMAIN
from tests.support.declared import CLUSTERS, PROVIDERS, Declared, Program, Secret, declare

pytestmark = pytest.mark.unit

EVERYTHING_ELSE = dataclasses.replace(
    CLUSTERS,
    highly_available=False,
    storage_class="fast",
    exposure="LoadBalancer",
    edge_annotations=("internal=true",),
    tool_host="tools.host",
    tool_activities=("refunds.pay",),
)


@pytest.fixture(scope="module", params=[CLUSTERS, EVERYTHING_ELSE], ids=["as it is", "as it can be"])
def program(request: pytest.FixtureRequest) -> Program:
    return declare(request.param, environment={"MODEL_KEY": "s3cret-value"})


def containers(program: Program) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{name}/{one['name']}", one)
        for name, pod in program.pods()
        for one in pod["spec"]["containers"] + pod["spec"].get("initContainers", [])
    ]


def on_kubernetes(program: Program) -> list[Declared]:
    return [
        one for one in program.resources if one.type.startswith("kubernetes:") and "pulumi:providers" not in one.type
    ]


def test_every_resource_goes_to_its_own_clusters_provider_and_none_to_a_default_one(program: Program) -> None:
    suffixes = {"-a": "region-a", "-b": "region-b", "-w": "witness"}
    found = on_kubernetes(program)
    assert len(found) > 100
    assert {one.name: one.provider for one in found} == {one.name: suffixes[one.name[-2:]] for one in found}


def test_each_provider_is_a_context_of_its_own(program: Program) -> None:
    contexts = {
        one.name: one.inputs["context"] for one in program.resources if one.type == "pulumi:providers:kubernetes"
    }
    assert set(contexts) == PROVIDERS
    assert len(set(contexts.values())) == 3


def test_both_regions_are_the_same_but_for_their_names(program: Program) -> None:
    def of(where: str) -> dict[tuple[str, str], dict[str, Any]]:
        return {(one.kind, one.name[:-2]): one.manifest for one in program.objects if one.provider == f"region-{where}"}

    a, b = of("a"), of("b")
    assert a.keys() == b.keys()
    for name in a:
        assert a[name]["metadata"].get("namespace") == b[name]["metadata"].get("namespace")
    same = ("Component", "Configuration", "Resiliency", "WorkflowAccessPolicy", "NetworkPolicy", "Role", "Service")
    for name in a:
        if a[name]["kind"] in same:
            assert a[name] == b[name]


def test_app_id_trust_domain_and_root_are_the_same_in_both_regions(program: Program) -> None:
    values = [plain_release(program, where) for where in ("a", "b")]
    for one in values:
        assert one["global"]["mtls"] == {"enabled": True, "controlPlaneTrustDomain": CONTROL_TRUST_DOMAIN}
        assert one["global"]["tag"] == "1.18.0"
    roots = {one["dapr_sentry"]["tls"]["root"]["certPEM"] for one in values}
    assert len(roots) == 1
    tls = {
        program.one("Secret", "tls", provider)["stringData"]["ca.crt"]
        for provider in ("region-a", "region-b", "witness")
    }
    assert tls == roots
    apps = {pod["metadata"]["annotations"].get("dapr.io/app-id") for name, pod in program.pods() if "worker" in name}
    assert apps == {"refund-desk"}


def test_each_region_has_an_issuer_of_its_own_under_the_root(program: Program) -> None:
    issuers = []
    for where in ("a", "b"):
        tls = plain_release(program, where)["dapr_sentry"]["tls"]
        root = x509.load_pem_x509_certificate(tls["root"]["certPEM"].encode())
        issuer = x509.load_pem_x509_certificate(tls["issuer"]["certPEM"].encode())
        issuer.verify_directly_issued_by(root)
        assert issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        issuers.append(tls["issuer"]["certPEM"])
    assert len(set(issuers)) == 2


def plain_release(program: Program, where: str) -> dict[str, Any]:
    return program.named(f"dapr-{where}").manifest["values"]


def test_no_secret_is_declared_in_the_open(program: Program) -> None:
    identity = next(one for one in program.resources if one.type.endswith("holdfast:Identity"))
    assert identity.inputs.get("tokens") is None
    for one in program.of_kind("Secret"):
        assert isinstance(one.inputs["stringData"], Secret), one.name
    hidden: set[str] = {"s3cret-value"}
    for one in program.of_kind("Secret"):
        names = [name for name in one.manifest["stringData"] if name not in ("ca.crt", "tls.crt")]
        hidden |= {one.manifest["stringData"][name].strip() for name in names}
    hidden |= {plain_release(program, where)["dapr_sentry"]["tls"]["issuer"]["keyPEM"].strip() for where in ("a", "b")}
    shown = json.dumps([open_parts(one.inputs) for one in program.resources])
    for secret in hidden:
        assert len(secret) > 8
        assert json.dumps(secret)[1:-1] not in shown
    assert "PRIVATE KEY" not in shown


def open_parts(value: Any) -> Any:
    """What Pulumi would keep and show in the open."""
    if isinstance(value, Secret):
        return "[secret]"
    if isinstance(value, dict):
        return {key: open_parts(one) for key, one in value.items()}
    return [open_parts(one) for one in value] if isinstance(value, list) else value


def test_the_outputs_hold_no_secret(program: Program) -> None:
    assert set(program.outputs) == {"manifest", "api_a", "api_b", "agent_a", "agent_b", "active"}
    assert "s3cret" not in json.dumps(program.outputs)


def test_nothing_runs_as_root_or_may_become_more(program: Program) -> None:
    for name, pod in program.pods():
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True, name
        assert pod["spec"]["securityContext"]["runAsUser"] > 0, name
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
            assert forbidden not in pod["spec"], name
        assert not [volume for volume in pod["spec"]["volumes"] if "hostPath" in volume], name
    for name, one in containers(program):
        context = one["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name


def test_only_data_can_be_written(program: Program) -> None:
    writable = {"/tmp", "/run/holdfast", "/var/lib/holdfast"}
    for name, one in containers(program):
        for mount in one["volumeMounts"]:
            assert mount["readOnly"] is (mount["mountPath"] not in writable), name


def test_every_image_is_pinned_and_none_is_the_latest(program: Program) -> None:
    for name, one in containers(program):
        tag = one["image"].rpartition("/")[2].partition(":")[2]
        assert tag, name
        assert tag != "latest", name


def test_every_container_is_probed_and_bounded(program: Program) -> None:
    for name, one in containers(program):
        assert one["readinessProbe"], name
        assert one["livenessProbe"], name
        for what in ("cpu", "memory"):
            assert one["resources"]["requests"][what], name
            assert one["resources"]["limits"][what], name


def test_pods_of_one_app_keep_apart_and_have_a_disruption_budget(program: Program) -> None:
    for name, pod in program.pods():
        app = pod["metadata"]["labels"]["app.kubernetes.io/name"]
        apart = pod["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        assert apart[0]["podAffinityTerm"]["labelSelector"]["matchLabels"]["app.kubernetes.io/name"] == app
        provider = next(
            one.provider for one in program.objects if one.name == name and "template" in one.inputs.get("spec", {})
        )
        assert program.one("PodDisruptionBudget", app, provider)["spec"]["selector"]["matchLabels"].items() <= (
            pod["metadata"]["labels"].items()
        )


def test_a_selector_finds_the_pods_that_it_is_meant_for(program: Program) -> None:
    for one in program.objects:
        if one.kind in ("Deployment", "StatefulSet"):
            labels = one.manifest["spec"]["template"]["metadata"]["labels"]
            assert one.manifest["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_whatever_a_pod_mounts_is_declared_in_its_cluster(program: Program) -> None:
    for workload in (one for one in program.objects if one.kind in ("Deployment", "StatefulSet")):
        spec = workload.manifest["spec"]["template"]["spec"]
        claims = {one["metadata"]["name"] for one in workload.manifest["spec"].get("volumeClaimTemplates", [])}
        volumes = {volume["name"] for volume in spec["volumes"]} | claims
        for one in spec["containers"]:
            assert {mount["name"] for mount in one["volumeMounts"]} <= volumes, workload.name
        for volume in spec["volumes"]:
            for source in volume.get("projected", {}).get("sources", []):
                keys = program.one("Secret", source["secret"]["name"], workload.provider)["stringData"].keys()
                assert {item["key"] for item in source["secret"]["items"]} <= keys, workload.name
            if "configMap" in volume:
                program.one("ConfigMap", volume["configMap"]["name"], workload.provider)
        for one in spec["containers"]:
            for source in one.get("envFrom", []):
                program.one("Secret", source["secretRef"]["name"], workload.provider)


def test_every_file_that_a_process_is_told_of_is_mounted(program: Program) -> None:
    for workload in (one for one in program.objects if one.kind in ("Deployment", "StatefulSet")):
        spec = workload.manifest["spec"]["template"]["spec"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for one in spec["containers"]:
            files = mounted(program, workload, one, volumes)
            wanted = {word for word in one["command"] if word.startswith("/etc/holdfast")}
            for name, content in list(files.items()):
                if name in wanted or "$(POD_NAME)" in "".join(wanted):
                    wanted |= set(re.findall(r'"(/etc/holdfast/[^"]+)"', content))
            wanted = {word for word in wanted if "$(" not in word}
            if one["name"] == "worker":
                # The companion's files are beside the worker's in one config map, and not for it.
                wanted = {word for word in wanted if "/companion/" not in word}
            assert wanted <= files.keys(), f"{workload.name}/{one['name']}"


def mounted(
    program: Program, workload: Declared, container: dict[str, Any], volumes: dict[str, dict[str, Any]]
) -> dict[str, str]:
    """Every file that a container finds, with what is in it."""
    files: dict[str, str] = {}
    for mount in container["volumeMounts"]:
        volume = volumes.get(mount["name"], {})
        if "configMap" in volume:
            data = program.one("ConfigMap", volume["configMap"]["name"], workload.provider)["data"]
            files |= {f"{mount['mountPath']}/{name}": content for name, content in data.items()}
        for source in volume.get("projected", {}).get("sources", []):
            data = program.one("Secret", source["secret"]["name"], workload.provider)["stringData"]
            files |= {f"{mount['mountPath']}/{item['path']}": data[item["key"]] for item in source["secret"]["items"]}
    return files


def test_nobody_speaks_to_the_clusters_api_but_the_region_agent(program: Program) -> None:
    speaks = {name for name, pod in program.pods() if pod["spec"]["automountServiceAccountToken"]}
    assert speaks == {"region-agent-a", "region-agent-b"}


def test_nothing_is_let_in_or_out_that_was_not_asked_for(program: Program) -> None:
    for provider in PROVIDERS:
        closed = program.one("NetworkPolicy", "deny-all", provider)["spec"]
        assert closed == {"podSelector": {"matchLabels": {}}, "policyTypes": ["Ingress", "Egress"]}
        namespace = program.one("Namespace", "holdfast", provider)
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_no_plain_protocol_leaves_a_pod(program: Program) -> None:
    told = json.dumps([one.manifest for one in program.of_kind("ConfigMap")])
    assert "http://" not in told
    for where in ("a", "b"):
        files = program.one("Secret", "database", f"region-{where}")["stringData"]
        assert "http://" not in files["patroni.yaml"]
        assert (
            "sslmode=verify-full" in program.one("Secret", "database-app", f"region-{where}")["stringData"]["app.dsn"]
        )


def test_declaring_it_again_declares_the_same(declared: Program) -> None:
    def shape(program: Program) -> dict[str, str]:
        return {one.name + one.type: json.dumps(open_parts(one.inputs), sort_keys=True) for one in program.objects}

    digest = re.compile(r'"holdfast.dev/(told|tls)": "[0-9a-f]{16}"')
    first, second = shape(declared), shape(declare())
    assert first.keys() == second.keys()
    for name in first:
        assert digest.sub("", first[name]) == digest.sub("", second[name])
