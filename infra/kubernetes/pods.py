"""Pods as this deployment has them: no root, a read-only root file system, no capability, bounded, and probed.

Every pod fits the `restricted` Pod Security Standard, which its namespace enforces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
from pulumi_kubernetes import core, meta

from infra.kubernetes.part import labels
from infra.kubernetes.places import DATA, RUN

__all__ = [
    "EDGE",
    "USER",
    "Budget",
    "Process",
    "answers",
    "claim",
    "configuration",
    "container",
    "files",
    "healthy",
    "listens_inside",
    "passing",
    "pod",
    "python",
    "selector",
    "tls",
]

USER = 65532
"""Whom every process runs as: the image's account, and that of Dapr's own images."""

EDGE = {"holdfast.dev/edge": "true"}
"""What marks a pod that the cluster's edge leads to."""


@dataclass(frozen=True)
class Budget:
    """What a container is given, and the most that it may take."""

    cpu: str
    memory: str
    most_cpu: str
    most_memory: str


@dataclass(frozen=True)
class Process:
    """One container. `mounts` are volumes of its pod by path; `probe` says whether it is alive."""

    name: str
    image: str
    command: Sequence[str]
    budget: Budget
    probe: core.v1.ProbeArgs
    ports: Mapping[str, int] = field(default_factory=dict[str, int])
    mounts: Mapping[str, str] = field(default_factory=dict[str, str])
    env: Sequence[core.v1.EnvVarArgs] = ()
    env_from: Sequence[core.v1.EnvFromSourceArgs] = ()


def python(module: str, file: str) -> list[str]:
    """A command that runs a part of this project."""
    return ["python", "-m", module, "--config", file]


def container(process: Process) -> core.v1.ContainerArgs:
    budget = process.budget
    return core.v1.ContainerArgs(
        name=process.name,
        image=process.image,
        image_pull_policy="IfNotPresent",
        command=list(process.command),
        ports=[core.v1.ContainerPortArgs(name=name, container_port=port) for name, port in process.ports.items()],
        env=list(process.env),
        env_from=list(process.env_from),
        resources=core.v1.ResourceRequirementsArgs(
            requests={"cpu": budget.cpu, "memory": budget.memory},
            limits={"cpu": budget.most_cpu, "memory": budget.most_memory},
        ),
        security_context=core.v1.SecurityContextArgs(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            run_as_non_root=True,
            capabilities=core.v1.CapabilitiesArgs(drop=["ALL"]),
        ),
        volume_mounts=[
            core.v1.VolumeMountArgs(name=volume, mount_path=path, read_only=path not in (DATA, RUN, "/tmp"))  # noqa: S108
            for path, volume in process.mounts.items()
        ],
        readiness_probe=process.probe,
        liveness_probe=_patient(process.probe),
    )


def _patient(probe: core.v1.ProbeArgs) -> core.v1.ProbeArgs:
    """Slower to conclude than what it is made of: a restart is the worse mistake."""
    return core.v1.ProbeArgs(
        exec_=probe.exec_,
        http_get=probe.http_get,
        tcp_socket=probe.tcp_socket,
        initial_delay_seconds=15,
        period_seconds=5,
        timeout_seconds=5,
        failure_threshold=6,
    )


def answers(port: str) -> core.v1.ProbeArgs:
    """Whether somebody listens: all that can be seen without a certificate."""
    return core.v1.ProbeArgs(tcp_socket=core.v1.TCPSocketActionArgs(port=port), period_seconds=1, failure_threshold=3)


def healthy(port: str) -> core.v1.ProbeArgs:
    """Whether the server says over TLS that it is."""
    get = core.v1.HTTPGetActionArgs(path="/healthz", port=port, scheme="HTTPS")
    return core.v1.ProbeArgs(http_get=get, period_seconds=1, timeout_seconds=2, failure_threshold=3)


def listens_inside(port: int) -> core.v1.ProbeArgs:
    """The same where it listens on the loopback interface alone."""
    command = ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"]
    return core.v1.ProbeArgs(exec_=core.v1.ExecActionArgs(command=command), period_seconds=2, failure_threshold=3)


def files(name: str, secrets: Mapping[str, Sequence[str]]) -> core.v1.VolumeArgs:
    """The named files of secrets, and nothing else of them, in one directory."""
    sources = [
        core.v1.VolumeProjectionArgs(
            secret=core.v1.SecretProjectionArgs(
                name=secret, items=[core.v1.KeyToPathArgs(key=key, path=key) for key in keys]
            )
        )
        for secret, keys in secrets.items()
    ]
    # The owner is root, whom PostgreSQL and its clients let share a key with one group.
    return core.v1.VolumeArgs(
        name=name, projected=core.v1.ProjectedVolumeSourceArgs(sources=sources, default_mode=0o440)
    )


def configuration(name: str) -> core.v1.VolumeArgs:
    """All files of a config map."""
    return core.v1.VolumeArgs(name="config", config_map=core.v1.ConfigMapVolumeSourceArgs(name=name))


def passing(name: str) -> core.v1.VolumeArgs:
    """An empty directory that goes with the pod."""
    return core.v1.VolumeArgs(name=name, empty_dir=core.v1.EmptyDirVolumeSourceArgs(size_limit="256Mi"))


def tls() -> core.v1.VolumeArgs:
    """The cluster's certificate, its key, and the root."""
    return files("tls", {"tls": ["ca.crt", "tls.crt", "tls.key"]})


def claim(name: str, size: str, storage_class: str) -> core.v1.PersistentVolumeClaimArgs:
    """Room that outlives the pod."""
    return core.v1.PersistentVolumeClaimArgs(
        metadata=meta.v1.ObjectMetaArgs(name=name),
        spec=core.v1.PersistentVolumeClaimSpecArgs(
            access_modes=["ReadWriteOnce"],
            storage_class_name=storage_class or None,
            resources=core.v1.VolumeResourceRequirementsArgs(requests={"storage": size}),
        ),
    )


def selector(app: str) -> meta.v1.LabelSelectorArgs:
    return meta.v1.LabelSelectorArgs(match_labels=labels(app))


def pod(
    app: str,
    processes: Sequence[Process],
    volumes: Sequence[core.v1.VolumeArgs],
    *,
    annotations: Mapping[str, pulumi.Input[str]],
    edge: bool = False,
    service_account: str | None = None,
    see_each_other: bool = False,
    stop_seconds: int = 10,
) -> core.v1.PodTemplateSpecArgs:
    """One pod. Pods of one app keep apart where they can: on other nodes, and in other zones."""
    apart = core.v1.WeightedPodAffinityTermArgs(
        weight=100,
        pod_affinity_term=core.v1.PodAffinityTermArgs(
            topology_key="kubernetes.io/hostname", label_selector=selector(app)
        ),
    )
    zones = core.v1.TopologySpreadConstraintArgs(
        max_skew=1,
        topology_key="topology.kubernetes.io/zone",
        when_unsatisfiable="ScheduleAnyway",
        label_selector=selector(app),
    )
    return core.v1.PodTemplateSpecArgs(
        metadata=meta.v1.ObjectMetaArgs(
            labels={**labels(app), **(EDGE if edge else {})},
            annotations=dict(annotations),
        ),
        spec=core.v1.PodSpecArgs(
            containers=[container(process) for process in processes],
            volumes=list(volumes),
            service_account_name=service_account,
            # Nobody but who needs it may speak to the cluster's API.
            automount_service_account_token=service_account is not None,
            enable_service_links=False,
            share_process_namespace=see_each_other or None,
            termination_grace_period_seconds=stop_seconds,
            security_context=core.v1.PodSecurityContextArgs(
                run_as_non_root=True,
                run_as_user=USER,
                run_as_group=USER,
                fs_group=USER,
                # PostgreSQL refuses a directory whose group may write to it.
                fs_group_change_policy="OnRootMismatch",
                seccomp_profile=core.v1.SeccompProfileArgs(type="RuntimeDefault"),
            ),
            affinity=core.v1.AffinityArgs(
                pod_anti_affinity=core.v1.PodAntiAffinityArgs(
                    preferred_during_scheduling_ignored_during_execution=[apart]
                )
            ),
            topology_spread_constraints=[zones],
        ),
    )
