"""What the program may know of a region and of the target that makes it: the same for every target.

A target is a kind of place: this machine, two kind clusters, any two Kubernetes clusters. It lays a
foundation once and then makes each region on it; `infra.program` is written against this module alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pulumi

from infra.topology import Settings

__all__ = ["Foundation", "Region", "RegionArgs", "Target"]


@dataclass(frozen=True)
class Foundation:
    """What both regions stand on: shared root certificate, witness, the world outside, and any WAN links of ours."""

    root: pulumi.Resource
    payments: pulumi.Resource
    witness: pulumi.Resource
    manifest: pulumi.Output[str]
    """Where the deployment says of itself how to reach its parts."""
    wan: pulumi.Resource | None = None

    @property
    def all(self) -> Sequence[pulumi.Resource]:
        links = () if self.wan is None else (self.wan,)
        return (self.root, *links, self.payments, self.witness)


@dataclass(frozen=True)
class RegionArgs:
    """Which region to make, out of what, and after what."""

    region: str
    settings: Settings
    foundation: Foundation
    after: Sequence[pulumi.Resource] = ()


class Region(pulumi.ComponentResource):
    """One region: database, lease store, Dapr, workers, region agent and API; active or standby."""

    api: pulumi.Output[str]
    """Where the region's HTTP API answers."""
    agent: pulumi.Output[str]
    """Where the region's agent says which role it has."""

    def __init__(self, args: RegionArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("holdfast:index:Region", args.region, {}, opts)


class Target(Protocol):
    """A kind of place in which a deployment can stand."""

    def check(self) -> None:
        """Raises, before anything starts, if something that it takes is missing here."""
        ...

    def foundation(self, settings: Settings) -> Foundation: ...
    def region(self, args: RegionArgs) -> Region: ...
    def who_is_active(self, settings: Settings) -> str:
        """The command that tells."""
        ...
