"""Each part of a deployment on Kubernetes is what its own module says."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import shlex
from typing import Any

import pytest
import yaml
from cryptography import x509
from pydantic import BaseModel
from refund_desk.payments.__main__ import PaymentsConfig
from refund_desk.provider.__main__ import ProviderConfig
from region_agent.companion import CompanionConfig
from region_agent.config import AgentConfig
from region_agent.observer import ObserverConfig
from service.config import ServiceConfig
from service.worker import WorkerConfig

from infra.kubernetes.identity import CertificateProvider, IdentityProvider
from infra.kubernetes.places import NODE_PORTS, PORTS, SECRETS
from infra.topology import EarlyRelease, Kubernetes
from tests.support.declared import CLUSTERS, Program, declare

pytestmark = pytest.mark.unit


def changed(**values: Any) -> Kubernetes:
    return dataclasses.replace(CLUSTERS, **values)


def told(program: Program, config: str, file: str, provider: str = "region-a") -> dict[str, Any]:
    return json.loads(program.one("ConfigMap", config, provider)["data"][file])


def paths(found: Any) -> list[str]:
    """Every text of a document, whatever it is below."""
    if isinstance(found, dict):
        return [text for one in found.values() for text in paths(one)]
    if isinstance(found, list):
        return [text for one in found for text in paths(one)]
    return [found] if isinstance(found, str) else []


# ---- what the processes are told


@pytest.mark.parametrize(
    ("provider", "config", "file", "model"),
    [
        ("region-a", "region-agent", "region-agent.json", AgentConfig),
        ("region-a", "region-agent", "companion.json", CompanionConfig),
        ("region-b", "worker", "worker-1.json", WorkerConfig),
        ("region-b", "worker", "worker-2.json", WorkerConfig),
        ("region-b", "worker", "companion.json", CompanionConfig),
        ("region-b", "api", "service.json", ServiceConfig),
        ("region-b", "api", "companion.json", CompanionConfig),
        ("witness", "observer", "observer.json", ObserverConfig),
        ("witness", "payments", "payments.json", PaymentsConfig),
        ("witness", "payments", "provider.json", ProviderConfig),
    ],
)
def test_the_app_accepts_what_it_is_told(
    declared: Program, provider: str, config: str, file: str, model: type[BaseModel]
) -> None:
    model.model_validate(told(declared, config, file, provider))


@pytest.mark.parametrize(
    ("provider", "app", "files"),
    [
        ("region-a", "region-agent", ["region-agent.json"]),
        ("region-a", "worker", ["worker-1.json", "worker-2.json"]),
        ("region-b", "api", ["service.json"]),
        ("witness", "payments", ["payments.json", "provider.json"]),
    ],
)
def test_a_pod_has_every_secret_that_its_files_name(
    declared: Program, provider: str, app: str, files: list[str]
) -> None:
    (pod,) = [
        one.manifest["spec"]["template"]["spec"]
        for kind in ("StatefulSet", "Deployment")
        for one in declared.of_kind(kind, provider)
        if one.manifest["metadata"]["name"] == app
    ]
    (volume,) = [one for one in pod["volumes"] if one["name"] == "secrets"]
    there = {
        f"{SECRETS}/{item['path']}" for source in volume["projected"]["sources"] for item in source["secret"]["items"]
    }
    named = {one for file in files for one in paths(told(declared, app, file, provider)) if one.startswith(SECRETS)}
    assert named <= there
    if app != "worker":
        assert f"{SECRETS}/metrics-token" in named


def test_nobody_tells_metrics_on_the_loopback_interface_of_the_region_agents_pod(declared: Program) -> None:
    assert told(declared, "region-agent", "region-agent.json")["neighbours"] == []


def test_each_region_reaches_the_others_by_their_edges_and_its_own_services_by_name(declared: Program) -> None:
    agent = told(declared, "region-agent", "region-agent.json")
    assert agent["patroni"] == "https://database.holdfast.svc:8008"
    assert agent["etcd"] == "https://lease-store.holdfast.svc:2379"
    assert agent["peer_patroni"] == "https://b.example.org:32008"
    assert agent["peer_etcd"] == "https://b.example.org:32379"
    assert agent["etcd_others"] == ["https://192.0.2.3:32379"]
    assert agent["observer"] == "https://192.0.2.3:32081"
    assert told(declared, "observer", "observer.json", "witness")["targets"] == {
        "a": {"patroni": "https://a.example.org:32008", "etcd": "https://a.example.org:32379"},
        "b": {"patroni": "https://b.example.org:32008", "etcd": "https://b.example.org:32379"},
    }


def test_the_settings_of_the_stack_reach_the_processes() -> None:
    early = EarlyRelease(enabled=False, silence_seconds=9.0)
    program = declare(workers=3, early_release=early, max_body_size="8Mi", model="openai:gpt-5")

    agent = told(program, "region-agent", "region-agent.json")
    assert agent["early_release"] == {"enabled": False, "silence_seconds": 9.0}
    assert [one["worker"] for one in agent["sidecars"]] == ["worker-1", "worker-2", "worker-3"]
    assert told(program, "worker", "worker-3.json")["model"] == "openai:gpt-5"
    pod = program.one("StatefulSet", "worker", "region-a")["spec"]["template"]
    assert pod["metadata"]["annotations"]["dapr.io/max-body-size"] == "8Mi"
    assert "provider.json" not in program.one("ConfigMap", "payments", "witness")["data"]


def test_a_models_key_is_a_secret_that_the_pods_get_as_environment() -> None:
    program = declare(environment={"MODEL_KEY": "s3cret"}, model="openai:gpt-5")

    assert program.one("Secret", "environment", "region-a")["stringData"] == {"MODEL_KEY": "s3cret"}
    (worker, _) = program.one("StatefulSet", "worker", "region-a")["spec"]["template"]["spec"]["containers"]
    assert worker["envFrom"] == [{"secretRef": {"name": "environment"}}]


def test_only_a_model_that_is_elsewhere_may_be_asked_elsewhere(declared: Program) -> None:
    def names(program: Program) -> set[str]:
        return {one.name for one in program.of_kind("NetworkPolicy")}

    assert names(declare(model="openai:gpt-5")) - names(declared) == {"models-a", "models-b"}


# ---- early release, the role and the sidecars work as they do on one machine


def test_the_region_agent_may_do_what_it_is_to_do_and_no_more(declared: Program) -> None:
    workloads = told(declared, "region-agent", "region-agent.json")["kubernetes"]["workloads"]
    assert set(workloads) == {"scheduler", "daprd-1", "daprd-2"}
    for one in workloads.values():
        role = next(
            role.manifest
            for role in declared.of_kind("Role", "region-a")
            if role.manifest["metadata"]["namespace"] == one["namespace"]
        )
        rules = [rule for rule in role["rules"] if "statefulsets/scale" in rule["resources"]]
        assert one["name"] in rules[0]["resourceNames"]
        assert rules[0]["verbs"] == ["get", "patch"]
        assert "secrets" not in json.dumps(role)
    assert workloads["daprd-1"]["replicas"] == 2
    assert declared.one("StatefulSet", "worker", "region-a")["spec"]["replicas"] == 0


def test_workers_have_the_names_that_their_files_and_services_have(declared: Program) -> None:
    stateful = declared.one("StatefulSet", "worker", "region-a")["spec"]
    assert stateful["ordinals"] == {"start": 1}
    (worker, companion) = stateful["template"]["spec"]["containers"]
    assert worker["command"][-1] == "/etc/holdfast/config/$(POD_NAME).json"
    assert companion["command"][2] == "region_agent.companion"
    assert stateful["template"]["spec"]["shareProcessNamespace"] is True
    for name in ("worker-1", "worker-2"):
        service = declared.one("Service", name, "region-a")["spec"]
        assert service["selector"] == {"statefulset.kubernetes.io/pod-name": name}
        assert service["publishNotReadyAddresses"] is True


def test_a_pod_without_a_sidecar_reaches_the_workers_through_tunnels(declared: Program) -> None:
    inwards = told(declared, "worker", "companion.json")["tunnels"]
    assert inwards == [
        {"direction": "in", "listen": "0.0.0.0:50443", "to": "127.0.0.1:50001"},
        {"direction": "in", "listen": "0.0.0.0:50444", "to": "127.0.0.1:3500"},
    ]
    for config, file in (("region-agent", "region-agent.json"), ("api", "service.json")):
        outwards = {one["listen"]: one["to"] for one in told(declared, config, "companion.json")["tunnels"]}
        for number, sidecar in enumerate(told(declared, config, file)["sidecars"], start=1):
            assert outwards[f"127.0.0.1:{sidecar['grpc_port']}"] == f"worker-{number}.holdfast.svc:50443"
            assert outwards[f"127.0.0.1:{sidecar['http_port']}"] == f"worker-{number}.holdfast.svc:50444"


def test_followers_read_the_role_that_the_agent_writes(declared: Program) -> None:
    assert told(declared, "region-agent", "region-agent.json")["role_file"] == "/var/lib/holdfast/role.json"
    for config, file in (("worker", "worker-1.json"), ("api", "service.json")):
        mirror = told(declared, config, "companion.json")["role"]
        assert mirror["agent"] == "https://region-agent.holdfast.svc:8444"
        assert mirror["role_file"] == told(declared, config, file)["role_file"]


# ---- identity


def test_a_certificate_is_for_every_host_by_which_its_cluster_is_dialled(declared: Program) -> None:
    dialled = {
        "region-a": {"a.example.org", "lease-store.holdfast.svc", "database.holdfast.svc", "region-agent.holdfast.svc"},
        "witness": {"192.0.2.3", "lease-store.holdfast.svc"},
    }
    for provider, wanted in dialled.items():
        pem = declared.one("Secret", "tls", provider)["stringData"]["tls.crt"]
        names = x509.load_pem_x509_certificate(pem.encode()).extensions
        san = names.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = {str(one) for one in san.get_values_for_type(x509.IPAddress)}
        assert wanted <= {*san.get_values_for_type(x509.DNSName), *addresses}
    assert ipaddress.ip_address("192.0.2.3")


def test_tokens_and_passwords_are_made_once() -> None:
    provider = IdentityProvider()
    made = provider.create({}).outs
    assert made is not None
    assert not provider.diff("identity", made, {}).changes
    assert len({*made["tokens"].values(), *made["passwords"].values()}) == 12


def test_a_certificate_is_made_anew_for_other_hosts_and_before_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    import datetime

    from infra import certificates

    root = IdentityProvider().create({}).outs
    assert root is not None
    provider = CertificateProvider()
    asked = {
        "root_certificate": root["root_certificate"],
        "root_key": root["root_key"],
        "common_name": "region-a",
        "hosts": ["a.example.org"],
        "authority": False,
    }
    made = provider.create(asked).outs
    assert made is not None
    assert not provider.diff("region-a", made, asked).changes
    assert provider.diff("region-a", made, asked | {"hosts": ["b.example.org"]}).changes
    assert provider.update("region-a", made, asked).outs["certificate"] != made["certificate"]  # type: ignore[index]

    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=710)
    monkeypatch.setattr(certificates, "_now", lambda: later)
    assert provider.diff("region-a", made, asked).changes


# ---- the stores


def test_only_region_a_may_make_the_database_and_both_keep_it_synchronous(declared: Program) -> None:
    files = {region: declared.one("Secret", "database", f"region-{region}")["stringData"] for region in ("a", "b")}
    config = {region: yaml.safe_load(files[region]["patroni.yaml"]) for region in files}
    assert config["a"]["bootstrap"]["dcs"]["synchronous_mode"] is True
    assert "bootstrap" not in config["b"]
    assert config["a"]["postgresql"]["connect_address"] == "a.example.org:32432"
    assert config["b"]["etcd3"]["hosts"] == [
        "lease-store.holdfast.svc:2379",
        "a.example.org:32379",
        "192.0.2.3:32379",
    ]
    for one in config.values():
        assert all(rule.startswith("hostssl ") for rule in one["postgresql"]["pg_hba"])
        assert one["restapi"]["verify_client"] == "required"
    assert files["a"]["bootstrap.sql"] == files["b"]["bootstrap.sql"]


def test_the_lease_store_demands_certificates_and_its_members_know_each_other(declared: Program) -> None:
    for where, provider in (("a", "region-a"), ("b", "region-b"), ("w", "witness")):
        stateful = declared.one("StatefulSet", "lease-store", provider)["spec"]
        (etcd,) = stateful["template"]["spec"]["containers"]
        options = dict(one.removeprefix("--").split("=", 1) for one in etcd["command"][1:])
        assert options["name"] == where
        assert options["initial-cluster"] == (
            "a=https://a.example.org:32380,b=https://b.example.org:32380,w=https://192.0.2.3:32380"
        )
        assert options["client-cert-auth"] == options["peer-client-cert-auth"] == "true"
        assert stateful["volumeClaimTemplates"][0]["spec"]["resources"]["requests"] == {"storage": "10Gi"}


def test_every_store_has_a_volume_of_the_class_that_was_asked_for() -> None:
    program = declare(changed(storage_class="fast", volume_size="5Gi"))
    for one in program.of_kind("StatefulSet"):
        for claim in one.manifest["spec"].get("volumeClaimTemplates", []):
            assert claim["spec"]["storageClassName"] == "fast"
    assert program.named("dapr-a").manifest["values"]["dapr_scheduler"]["cluster"] == {
        "storageClassName": "fast",
        "storageSize": "5Gi",
    }


# ---- edges


@pytest.mark.parametrize("where", ["a", "b", "w"])
def test_an_edge_has_every_port_that_others_dial_and_pods_behind_it(declared: Program, where: str) -> None:
    provider = {"a": "region-a", "b": "region-b", "w": "witness"}[where]
    edge = declared.one("Service", "edge", provider)["spec"]
    assert edge["publishNotReadyAddresses"] is True
    behind = {
        port["name"]
        for one in declared.objects
        if one.provider == provider and one.kind in ("Deployment", "StatefulSet")
        for container in one.manifest["spec"]["template"]["spec"]["containers"]
        for port in container["ports"]
        if edge["selector"].items() <= one.manifest["spec"]["template"]["metadata"]["labels"].items()
    }
    assert {port["targetPort"] for port in edge["ports"]} == behind
    assert {port["name"]: port["nodePort"] for port in edge["ports"]}.items() <= NODE_PORTS.items()


def test_a_load_balancer_has_natural_ports_its_annotations_and_its_sources() -> None:
    program = declare(
        changed(
            exposure="LoadBalancer", edge_annotations=("example.org/internal=true",), allowed_ranges=("10.0.0.0/8",)
        )
    )
    edge = program.one("Service", "edge", "region-a")
    assert edge["metadata"]["annotations"] == {"example.org/internal": "true"}
    assert edge["spec"]["type"] == "LoadBalancer"
    assert edge["spec"]["loadBalancerSourceRanges"] == ["10.0.0.0/8"]
    assert {port["name"]: port["port"] for port in edge["spec"]["ports"]}.items() <= PORTS.items()
    assert told(program, "region-agent", "region-agent.json")["peer_patroni"] == "https://b.example.org:8008"
    assert program.outputs["api_a"] == "https://a.example.org:8443"


# ---- Dapr


def test_dapr_is_its_own_chart_at_its_version(declared: Program) -> None:
    release = declared.named("dapr-a").manifest
    assert (release["chart"], release["version"]) == ("dapr", "1.18.0")
    assert release["repositoryOpts"] == {"repo": "https://dapr.github.io/helm-charts/"}
    assert release["values"]["global"]["ha"] == {"enabled": True}
    alone = declare(changed(highly_available=False, dapr_chart="./charts/dapr", dapr_registry="localhost/dapr"))
    local = alone.named("dapr-a").manifest
    assert "version" not in local
    assert "repositoryOpts" not in local
    assert local["values"]["global"]["ha"] == {"enabled": False}
    assert local["values"]["global"]["registry"] == "localhost/dapr"


def test_a_pod_is_not_made_without_its_sidecar_and_other_namespaces_are_left_alone(declared: Program) -> None:
    injector = declared.named("dapr-a").manifest["values"]["dapr_sidecar_injector"]
    assert injector["webhookFailurePolicy"] == "Fail"
    assert injector["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "holdfast"}}


def test_sidecars_sign_histories_and_keep_state_in_the_regions_database(declared: Program) -> None:
    configuration = declared.one("Configuration", "holdfast", "region-a")["spec"]
    assert {"name": "WorkflowHistorySigning", "enabled": True} in configuration["features"]
    assert "workflow" not in configuration
    component = declared.one("Component", "statestore", "region-a")
    connection = component["spec"]["metadata"][0]
    assert connection == {
        "name": "connectionString",
        "secretKeyRef": {"name": "database-app", "key": "app.dsn"},
    }
    assert component["scopes"] == ["refund-desk"]
    dsn = declared.one("Secret", "database-app", "region-a")["stringData"]["app.dsn"]
    found = dict(part.split("=", 1) for part in shlex.split(dsn))
    assert (found["host"], found["port"]) == ("database.holdfast.svc", "5432")
    assert declared.one("Resiliency", "holdfast", "region-a")["spec"]["targets"]["components"]


def test_retention_and_traces_are_as_the_stack_has_them() -> None:
    program = declare(changed(retention="720h", trace_endpoint="https://collector:4317", trace_sampling=0.5))
    spec = program.one("Configuration", "holdfast", "region-b")["spec"]
    assert spec["workflow"] == {"stateRetentionPolicy": {"anyTerminal": "720h"}}
    assert spec["tracing"] == {
        "samplingRate": "0.5",
        "otel": {"endpointAddress": "collector:4317", "isSecure": True, "protocol": "grpc"},
    }


def test_nobody_but_the_agents_themselves_may_start_their_work(declared: Program) -> None:
    policy = declared.one("WorkflowAccessPolicy", "agents", "region-a")
    assert policy["scopes"] == ["refund-desk"]
    assert [rule["callers"] for rule in policy["spec"]["rules"]] == [[{"appID": "refund-desk"}]]


def test_a_tool_host_has_an_identity_of_its_own_and_does_only_what_it_is_there_for() -> None:
    program = declare(changed(tool_host="tools.host", tool_activities=("refunds.pay",)))
    deployment = program.one("Deployment", "tool-host", "region-a")["spec"]
    annotations = deployment["template"]["metadata"]["annotations"]
    assert annotations["dapr.io/app-id"] == "refund-desk-tools"
    assert deployment["template"]["spec"]["containers"][0]["command"] == ["python", "-m", "tools.host"]
    policy = program.one("WorkflowAccessPolicy", "tools", "region-a")
    assert policy["scopes"] == ["refund-desk-tools"]
    assert policy["spec"]["rules"] == [{"callers": [{"appID": "refund-desk"}], "activities": [{"name": "refunds.pay"}]}]
    # It works, as the workers do, only where the region is active.
    assert deployment["replicas"] == 0
    agent = told(program, "region-agent", "region-agent.json")
    assert agent["also"] == ["tool-host"]
    assert agent["kubernetes"]["workloads"]["tool-host"]["kind"] == "deployments"


# ---- changes


def test_a_change_of_what_a_pod_reads_replaces_the_pod() -> None:
    def digests(program: Program) -> dict[str, str]:
        return {
            name: pod["metadata"]["annotations"]["holdfast.dev/told"]
            for name, pod in program.pods()
            if "holdfast.dev/told" in pod["metadata"]["annotations"] and not name.startswith("database")
        }

    before, after = digests(declare()), digests(declare(max_iterations=7))
    assert {name for name in before if before[name] != after[name]} == {
        f"{app}-{where}" for app in ("worker", "api") for where in ("a", "b")
    }


def test_the_manifest_says_where_everything_answers(declared: Program) -> None:
    manifest = json.loads(declared.outputs["manifest"])
    assert manifest["region-a"]["api"] == "a.example.org:32443"
    assert manifest["witness"]["payments"] == "192.0.2.3:32445"
    assert declared.outputs["api_b"] == "https://b.example.org:32443"
    assert "kubectl --context kind-holdfast-a -n holdfast exec region-agent-0" in declared.outputs["active"]
