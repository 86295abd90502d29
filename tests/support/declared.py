"""The Kubernetes program under Pulumi's mocks: everything that it declares, as the clusters would be told."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime import mocks, rpc

from infra import program
from infra.config import Configuration
from infra.kubernetes.identity import CertificateProvider, IdentityProvider
from infra.kubernetes.target import KubernetesTarget
from infra.topology import Kubernetes, Settings

CLUSTERS = Kubernetes(
    address_a="a.example.org",
    address_b="b.example.org",
    address_witness="192.0.2.3",
    image="example.org/holdfast:1.2.3",
)
PROVIDERS = {"region-a", "region-b", "witness"}


@dataclass(frozen=True)
class Declared:
    """One resource as it was declared; values that are secrets for Pulumi are `Secret`s."""

    name: str
    type: str
    provider: str
    """The name of the provider resource, empty for a default one."""
    inputs: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.inputs.get("kind", ""))

    @property
    def manifest(self) -> dict[str, Any]:
        """What the cluster is sent."""
        return plain(self.inputs)


@dataclass(frozen=True)
class Secret:
    """A value that Pulumi keeps encrypted."""

    value: Any


@dataclass
class Program:
    """What was declared, and what was exported."""

    resources: list[Declared] = field(default_factory=list[Declared])
    outputs: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def objects(self) -> list[Declared]:
        """What goes to a cluster as it is."""
        return [one for one in self.resources if one.kind]

    def named(self, name: str) -> Declared:
        (found,) = [one for one in self.resources if one.name == name]
        return found

    def of_kind(self, kind: str, provider: str | None = None) -> list[Declared]:
        return [one for one in self.objects if one.kind == kind and provider in (None, one.provider)]

    def one(self, kind: str, name: str, provider: str) -> dict[str, Any]:
        """The manifest of one object in one cluster."""
        (found,) = [one.manifest for one in self.of_kind(kind, provider) if one.manifest["metadata"]["name"] == name]
        return found

    def pods(self) -> list[tuple[str, dict[str, Any]]]:
        """Every pod that the program has made, with the name of what makes it."""
        return [
            (one.name, one.manifest["spec"]["template"])
            for one in self.objects
            if one.kind in ("Deployment", "StatefulSet")
        ]


def plain(value: Any) -> Any:
    """With what is secret in the open, and whole numbers as whole numbers again."""
    if isinstance(value, Secret):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Recorder(mocks.Mocks):
    """Makes real certificates and passwords, and takes everything else as it is."""

    def __init__(self) -> None:
        self.found: list[Declared] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        inputs = _marked(args.inputs)
        provider = (args.provider or "").rpartition("::")[0].rpartition("::")[2]
        self.found.append(Declared(args.name, args.typ, provider, inputs))
        outputs = dict(args.inputs)
        if args.typ.endswith("holdfast:Identity"):
            outputs = IdentityProvider().create(plain(inputs)).outs or {}
        elif args.typ.endswith("holdfast:Certificate"):
            outputs = CertificateProvider().create(plain(inputs)).outs or {}
        return f"{args.name}-id", outputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        return {}


def declare(clusters: Kubernetes = CLUSTERS, **settings: Any) -> Program:
    """The whole program on these clusters."""
    recorder, done = Recorder(), Program()
    asyncio.set_event_loop(asyncio.new_event_loop())
    mocks.set_mocks(recorder, project="holdfast", stack="cloud", preview=False)
    whole = dataclasses.replace(Settings(name="cloud", directory=Path("/state/cloud")), **settings)

    @pulumi.runtime.test
    def run() -> pulumi.Output[Any]:
        program.deploy(Configuration("cloud", whole, clusters), KubernetesTarget(clusters))
        outputs = pulumi.runtime.stack.get_root_resource().outputs  # type: ignore[attr-defined]
        return pulumi.Output.from_input(outputs).apply(done.outputs.update)

    run()
    done.resources = recorder.found
    return done


def _marked(value: Any) -> Any:
    if rpc.is_rpc_secret(value):
        return Secret(_marked(rpc.unwrap_rpc_secret(value)))
    if isinstance(value, dict):
        return {key: _marked(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_marked(one) for one in value]
    return value
