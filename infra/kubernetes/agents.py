"""What runs agents in a region: the region agent, which decides when, the workers, and the API.

Workers have pods only while their region is active: a sidecar cannot start on a database that is read-only. The
region agent has them, and forgets the scheduler's past, by the number of pods of a workload; so Pulumi leaves that
number alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import pulumi
from pulumi_kubernetes import apps, core, meta, rbac

from infra import processes
from infra.kubernetes import pods
from infra.kubernetes.dapr import TOOLS_APP_ID, sidecar_annotations
from infra.kubernetes.part import Cluster, Part, fingerprint, labels
from infra.kubernetes.places import CONFIG, CONTROL_PLANE, DATA, PORTS, RUN, SECRETS, TLS, Places, worker_names
from infra.kubernetes.pods import Budget, Process

__all__ = ["Api", "RegionAgent", "ToolHost", "Workers"]

_SCHEDULERS = 3
"""As many as Dapr's chart always has."""

_SCHEDULER_PODS = "app=dapr-scheduler-server"
_TOOL_HOST = "tool-host"
_APP_PORT = 6001
_SIDECAR_HEALTH = 3501
_COMPANION_SECRETS = "/etc/holdfast/companion"
_TLS_DIRECTORY = TLS.ca.rpartition("/")[0]

_LITTLE = Budget("50m", "96Mi", "500m", "256Mi")
_MODERATE = Budget("100m", "256Mi", "1", "1Gi")
_MUCH = Budget("250m", "512Mi", "1", "1Gi")


class RegionAgent(Part):
    """Follows the database's role; may set the number of the region's pods, and forget the scheduler's volumes."""

    def __init__(
        self, cluster: Cluster, parent: pulumi.Resource | None = None, after: Sequence[pulumi.Resource] = ()
    ) -> None:
        super().__init__("RegionAgent", cluster, parent, after)
        places, app = cluster.places, "region-agent"
        told = processes.agent(places.settings, places.as_agent(), _supervision(places))
        config = _config(self, app, {"region-agent": told, "companion": _companion(self, DATA, _outwards(places))})
        account = core.v1.ServiceAccount(
            self.named(app),
            metadata=self.metadata(app),
            automount_service_account_token=False,
            opts=self.options(),
        )
        self._may(places.namespace, _OWN_RULES)
        self._may(CONTROL_PLANE, _SCHEDULER_RULES)
        agent = Process(
            app,
            places.kubernetes.image,
            pods.python("region_agent", f"{CONFIG}/region-agent.json"),
            _MODERATE,
            pods.healthy("agent"),
            ports={"agent": PORTS["agent"]},
            mounts={DATA: "data", CONFIG: "config", SECRETS: "secrets", _TLS_DIRECTORY: "tls"},
        )
        companion = _companion_process(places, DATA, places.tunnels[0].grpc)
        names = ["api-token", "console-operator-token", "metrics-token", "dapr-api-token"]
        volumes = [pods.tls(), pods.configuration(app), _secrets(names), _companion_secrets()]
        apps.v1.StatefulSet(
            self.named(app),
            metadata=self.metadata(app),
            spec=apps.v1.StatefulSetSpecArgs(
                service_name=app,
                replicas=1,
                selector=pods.selector(app),
                template=pods.pod(
                    app,
                    [agent, companion],
                    volumes,
                    annotations=_seen(cluster, config),
                    edge=True,
                    service_account=app,
                ),
                volume_claim_templates=[pods.claim("data", "1Gi", places.kubernetes.storage_class)],
            ),
            opts=self.options(account),
        )
        self.service(app, "agent")
        self.disruption_budget(app, max_unavailable=1)
        self.register_outputs({})

    def _may(self, namespace: str, rules: Sequence[rbac.v1.PolicyRuleArgs]) -> None:
        metadata = meta.v1.ObjectMetaArgs(name="region-agent", namespace=namespace, labels=labels("region-agent"))
        name = self.named(f"region-agent-in-{namespace}")
        role = rbac.v1.Role(name, metadata=metadata, rules=list(rules), opts=self.options())
        rbac.v1.RoleBinding(
            name,
            metadata=metadata,
            role_ref=rbac.v1.RoleRefArgs(api_group="rbac.authorization.k8s.io", kind="Role", name="region-agent"),
            subjects=[
                rbac.v1.SubjectArgs(kind="ServiceAccount", name="region-agent", namespace=self.cluster.places.namespace)
            ],
            opts=self.options(role),
        )


class Workers(Part):
    """Agent workers, each with its own injected sidecar; none until the region agent wants them."""

    def __init__(
        self, cluster: Cluster, parent: pulumi.Resource | None = None, after: Sequence[pulumi.Resource] = ()
    ) -> None:
        super().__init__("Workers", cluster, parent, after)
        places, app = cluster.places, "worker"
        here = places.as_worker()
        told = {one.worker: processes.worker(places.settings, here, one) for one in here.sidecars}
        inwards = [
            {"direction": "in", "listen": f"0.0.0.0:{PORTS[port]}", "to": f"127.0.0.1:{to}"}
            for port, to in (("sidecar-grpc", here.sidecars[0].grpc_port), ("sidecar-http", here.sidecars[0].http_port))
        ]
        companion = _companion(self, RUN, inwards, follows=True) | {"pair": {}}
        config = _config(self, app, told | {"companion": companion})
        worker = Process(
            app,
            places.kubernetes.image,
            pods.python("service.worker", f"{CONFIG}/$(POD_NAME).json"),
            _MUCH,
            pods.listens_inside(_APP_PORT),
            mounts={
                RUN: "run",
                "/tmp": "tmp",  # noqa: S108
                CONFIG: "config",
                SECRETS: "secrets",
                _TLS_DIRECTORY: "tls",
            },
            env=[_pod_name()],
            env_from=_environment(self, places),
        )
        companion_process = _companion_process(
            places, RUN, ports={name: PORTS[name] for name in ("sidecar-grpc", "sidecar-http")}
        )
        volumes = [
            pods.tls(),
            pods.configuration(app),
            pods.files("secrets", {"app-secrets": ["payments-token", "provider-token", "dapr-api-token"]}),
            _companion_secrets(),
            pods.passing("run"),
            pods.passing("tmp"),
        ]
        sidecar = sidecar_annotations(processes.APP_ID, _APP_PORT, places.settings.max_body_size)
        apps.v1.StatefulSet(
            self.named(app),
            metadata=self.metadata(app),
            spec=apps.v1.StatefulSetSpecArgs(
                service_name=app,
                replicas=0,
                ordinals=apps.v1.StatefulSetOrdinalsArgs(start=1),
                pod_management_policy="Parallel",
                selector=pods.selector(app),
                template=pods.pod(
                    app,
                    [worker, companion_process],
                    volumes,
                    annotations={**_seen(cluster, config), **sidecar},
                    # A worker and its sidecar fail together: each pod's companion sees to it.
                    see_each_other=True,
                    stop_seconds=5,
                ),
            ),
            opts=pulumi.ResourceOptions.merge(self.options(), pulumi.ResourceOptions(ignore_changes=["spec.replicas"])),
        )
        for name in worker_names(places.settings):
            # A fixed address: a name of a pod that is not there yet would be remembered as missing.
            self.service(name, "sidecar-grpc", "sidecar-http", pods={"statefulset.kubernetes.io/pod-name": name})
        self.disruption_budget(app, max_unavailable=1)
        self.register_outputs({})


class Api(Part):
    """The region's HTTP API and console. It has no sidecar: it is there in a standby, too."""

    def __init__(
        self, cluster: Cluster, parent: pulumi.Resource | None = None, after: Sequence[pulumi.Resource] = ()
    ) -> None:
        super().__init__("Api", cluster, parent, after)
        places, app = cluster.places, "api"
        told = processes.service(places.settings, places.as_api())
        companion = _companion(self, RUN, _outwards(places), follows=True)
        config = _config(self, app, {"service": told, "companion": companion})
        server = Process(
            app,
            places.kubernetes.image,
            pods.python("service", f"{CONFIG}/service.json"),
            _MODERATE,
            pods.healthy("api"),
            ports={"api": PORTS["api"]},
            mounts={
                RUN: "run",
                "/tmp": "tmp",  # noqa: S108
                CONFIG: "config",
                SECRETS: "secrets",
                _TLS_DIRECTORY: "tls",
            },
            env_from=_environment(self, places, declare=False),
        )
        names = ["api-token", "console-viewer-token", "console-operator-token", "metrics-token", "dapr-api-token"]
        volumes = [
            pods.tls(),
            pods.configuration(app),
            _secrets(names),
            _companion_secrets(),
            pods.passing("run"),
            pods.passing("tmp"),
        ]
        apps.v1.Deployment(
            self.named(app),
            metadata=self.metadata(app),
            spec=apps.v1.DeploymentSpecArgs(
                replicas=2 if places.kubernetes.highly_available else 1,
                selector=pods.selector(app),
                template=pods.pod(
                    app,
                    [server, _companion_process(places, RUN, places.tunnels[0].grpc)],
                    volumes,
                    annotations=_seen(cluster, config),
                    edge=True,
                ),
            ),
            opts=self.options(),
        )
        self.service(app, "api")
        self.disruption_budget(app, max_unavailable=1)
        self.register_outputs({})


class ToolHost(Part):
    """Hosts tools of the agents under an identity of its own, which a policy lets do just that."""

    def __init__(
        self, cluster: Cluster, parent: pulumi.Resource | None = None, after: Sequence[pulumi.Resource] = ()
    ) -> None:
        super().__init__("ToolHost", cluster, parent, after)
        places, app = cluster.places, _TOOL_HOST
        token = core.v1.EnvVarSourceArgs(
            secret_key_ref=core.v1.SecretKeySelectorArgs(name="dapr-api-token", key="token")
        )
        host = Process(
            app,
            places.kubernetes.image,
            ["python", "-m", places.kubernetes.tool_host],
            _MUCH,
            # It has no door of its own: what it can do is what its sidecar can, whose public port tells.
            core.v1.ProbeArgs(
                http_get=core.v1.HTTPGetActionArgs(path="/v1.0/healthz", port=_SIDECAR_HEALTH), period_seconds=2
            ),
            mounts={"/tmp": "tmp"},  # noqa: S108
            env=[core.v1.EnvVarArgs(name="DAPR_API_TOKEN", value_from=token)],
            env_from=_environment(self, places, declare=False),
        )
        sidecar = sidecar_annotations(TOOLS_APP_ID, None, places.settings.max_body_size)
        apps.v1.Deployment(
            self.named(app),
            metadata=self.metadata(app),
            spec=apps.v1.DeploymentSpecArgs(
                replicas=0,
                selector=pods.selector(app),
                template=pods.pod(app, [host], [pods.tls(), pods.passing("tmp")], annotations=sidecar, stop_seconds=5),
            ),
            opts=pulumi.ResourceOptions.merge(self.options(), pulumi.ResourceOptions(ignore_changes=["spec.replicas"])),
        )
        self.disruption_budget(app, max_unavailable=1)
        self.register_outputs({})


def _supervision(places: Places) -> dict[str, object]:
    """Which workload runs each process that the region agent starts and stops."""

    def workload(kind: str, namespace: str, name: str, replicas: int, selector: str) -> dict[str, object]:
        return {"kind": kind, "namespace": namespace, "name": name, "replicas": replicas, "selector": selector}

    scheduler = workload("statefulsets", CONTROL_PLANE, "dapr-scheduler-server", _SCHEDULERS, _SCHEDULER_PODS)
    workers = workload(
        "statefulsets", places.namespace, "worker", places.settings.workers, "app.kubernetes.io/name=worker"
    )
    found: dict[str, object] = {"scheduler": scheduler | {"forgets": _SCHEDULER_PODS}}
    found |= {sidecar.process: workers for sidecar in places.as_agent().sidecars}
    also = [_TOOL_HOST] if places.kubernetes.tool_host else []
    for name in also:
        replicas = 2 if places.kubernetes.highly_available else 1
        found[name] = workload("deployments", places.namespace, name, replicas, f"app.kubernetes.io/name={name}")
    return {"kubernetes": {"workloads": found}, "also": also}


_OWN_RULES = [
    rbac.v1.PolicyRuleArgs(
        api_groups=["apps"],
        resources=["statefulsets/scale", "deployments/scale"],
        resource_names=["worker", _TOOL_HOST],
        verbs=["get", "patch"],
    ),
    rbac.v1.PolicyRuleArgs(api_groups=[""], resources=["pods"], verbs=["list"]),
]
_SCHEDULER_RULES = [
    rbac.v1.PolicyRuleArgs(
        api_groups=["apps"],
        resources=["statefulsets/scale"],
        resource_names=["dapr-scheduler-server"],
        verbs=["get", "patch"],
    ),
    rbac.v1.PolicyRuleArgs(api_groups=[""], resources=["pods"], verbs=["list"]),
    rbac.v1.PolicyRuleArgs(api_groups=[""], resources=["persistentvolumeclaims"], verbs=["list", "deletecollection"]),
]


def _outwards(places: Places) -> list[dict[str, object]]:
    """From this pod's loopback interface to every worker's sidecar."""
    return [
        {"direction": "out", "listen": f"127.0.0.1:{here}", "to": f"{places.inside(one.worker)}:{PORTS[there]}"}
        for one in places.tunnels
        for here, there in ((one.grpc, "sidecar-grpc"), (one.http, "sidecar-http"))
    ]


def _companion(
    part: Part, data: str, tunnels: Sequence[Mapping[str, object]], *, follows: bool = False
) -> dict[str, object]:
    places = part.cluster.places
    told: dict[str, object] = {
        "tls": asdict(TLS),
        "tunnels": list(tunnels),
        "events_file": f"{data}/companion.jsonl",
    }
    if follows:
        told["role"] = {
            "region": places.where,
            "agent": places.as_worker().agent,
            "token_file": f"{_COMPANION_SECRETS}/api-token",
            "role_file": f"{data}/role.json",
        }
    return told


def _companion_process(
    places: Places, data: str, inside: int | None = None, ports: Mapping[str, int] | None = None
) -> Process:
    mounts = {data: "data" if data == DATA else "run", CONFIG: "config", _TLS_DIRECTORY: "tls"}
    return Process(
        "companion",
        places.kubernetes.image,
        pods.python("region_agent.companion", f"{CONFIG}/companion.json"),
        _LITTLE,
        pods.listens_inside(inside) if inside is not None else pods.answers("sidecar-grpc"),
        ports=ports or {},
        mounts=mounts | {_COMPANION_SECRETS: "companion"},
    )


def _config(part: Part, app: str, told: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """The pods' configuration files, as a config map: they name secrets, and hold none."""
    files = {f"{name}.json": json.dumps(content, indent=1) for name, content in told.items()}
    core.v1.ConfigMap(part.named(app), metadata=part.metadata(app), data=files, opts=part.options())
    return files


def _seen(cluster: Cluster, config: Mapping[str, str]) -> dict[str, pulumi.Output[str]]:
    """What has pods replaced when what they read at their start is another."""
    return {"holdfast.dev/told": fingerprint(config), "holdfast.dev/tls": fingerprint(cluster.certificate.key)}


def _secrets(names: Sequence[str]) -> core.v1.VolumeArgs:
    return pods.files("secrets", {"app-secrets": names, "database-app": ["app.dsn"]})


def _companion_secrets() -> core.v1.VolumeArgs:
    return pods.files("companion", {"app-secrets": ["api-token"]})


def _pod_name() -> core.v1.EnvVarArgs:
    source = core.v1.EnvVarSourceArgs(field_ref=core.v1.ObjectFieldSelectorArgs(field_path="metadata.name"))
    return core.v1.EnvVarArgs(name="POD_NAME", value_from=source)


def _environment(part: Part, places: Places, *, declare: bool = True) -> list[core.v1.EnvFromSourceArgs]:
    """The variables that the configuration names, such as a model's API key."""
    if not places.settings.environment:
        return []
    if declare:
        part.secret("environment", places.settings.environment)
    return [core.v1.EnvFromSourceArgs(secret_ref=core.v1.SecretEnvSourceArgs(name="environment"))]
