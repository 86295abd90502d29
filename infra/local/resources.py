"""The parts of a local deployment as Pulumi resources, and the local target that puts them together."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
from pulumi.dynamic import Resource

from infra.local.part import TARGET, PartProvider
from infra.properties import to_properties
from infra.region import Foundation, Region, RegionArgs
from infra.state import MANIFEST
from infra.toolchain import TOOLS, find_postgres, require
from infra.topology import Settings

__all__ = [
    "LocalRegion",
    "LocalTarget",
    "Part",
    "Payments",
    "RegionProcesses",
    "RootCertificate",
    "WanLinks",
    "Witness",
]


class Part(Resource, module="holdfast", name="Part"):
    """One part of a local deployment: files and supervised processes on this machine."""

    healthy: pulumi.Output[bool]
    detail: pulumi.Output[str]
    """What is wrong with it, when it is not healthy."""
    facts: pulumi.Output[Mapping[str, str]]
    """Where it answers, by name."""

    def __init__(
        self,
        part: str,
        settings: Settings,
        target: str = TARGET,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        properties: dict[str, object] = {
            "part": part,
            "settings": to_properties(settings),
            "reports_to": _urn(part, f"pulumi-python:{self._resource_type_name}", opts),
            "healthy": None,
            "detail": None,
            "facts": None,
        }
        super().__init__(PartProvider(target), part, properties, opts)


class RootCertificate(Part, module="holdfast", name="RootCertificate"):
    """The root that both regions trust, and every certificate and secret under it."""


class WanLinks(Part, module="holdfast", name="WanLinks"):
    """Every line between the regions and the witness, one proxy per direction and pair."""


class Payments(Part, module="holdfast", name="Payments"):
    """The world outside both regions: the service in which agents' effects happen."""


class Witness(Part, module="holdfast", name="Witness"):
    """The third vote on who is active, and the second opinion on who is silent."""


class RegionProcesses(Part, module="holdfast", name="RegionProcesses"):
    """One region's supervisor and everything that it keeps running."""


class LocalRegion(Region):
    """A region of processes on this machine."""

    def __init__(self, args: RegionArgs, target: str = TARGET, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(args, opts)
        after = [*args.foundation.all, *args.after]
        self.processes = RegionProcesses(
            f"region-{args.region}",
            args.settings,
            target,
            pulumi.ResourceOptions(parent=self, depends_on=after),
        )
        self.api = self.processes.facts.apply(lambda facts: facts.get("api", ""))
        self.agent = self.processes.facts.apply(lambda facts: facts.get("agent", ""))
        self.register_outputs({"api": self.api, "agent": self.agent})


class LocalTarget:
    """Two regions and a witness as processes on this machine.

    The regions start side by side, on a foundation that is up: a region is ready when its database replicates
    synchronously, which takes both.
    """

    def __init__(self, target: str = TARGET) -> None:
        self.target = target

    def check(self) -> None:
        require(tool.name for tool in TOOLS)
        find_postgres()

    def foundation(self, settings: Settings) -> Foundation:
        root = RootCertificate("root", settings, self.target)
        wan = WanLinks("wan", settings, self.target, _after(root))
        return Foundation(
            root=root,
            wan=wan,
            payments=Payments("payments", settings, self.target, _after(root)),
            witness=Witness("witness", settings, self.target, _after(root, wan)),
            manifest=root.id.apply(lambda _: str(settings.directory / MANIFEST)),
        )

    def region(self, args: RegionArgs) -> Region:
        return LocalRegion(args, self.target)

    def who_is_active(self, settings: Settings) -> str:
        return f"holdfast status --stack {settings.name}"


def _after(*resources: pulumi.Resource) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions(depends_on=list(resources))


def _urn(name: str, kind: str, opts: pulumi.ResourceOptions | None) -> str:
    """The name that Pulumi will give a resource, which its provider is never told."""
    parent = opts.parent if opts is not None else None
    lineage = f"{parent.pulumi_resource_type}$" if parent is not None else ""
    return f"urn:pulumi:{pulumi.get_stack()}::{pulumi.get_project()}::{lineage}{kind}::{name}"
