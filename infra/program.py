"""The Pulumi program: one deployment of two regions and a witness, on the target that the stack names."""

from __future__ import annotations

from pathlib import Path

import pulumi

from infra import config
from infra.region import Region, RegionArgs, Target
from infra.state import deployment_directory
from infra.toolchain import ToolchainError
from infra.topology import REGIONS

__all__ = ["TargetUnavailable", "deploy", "main", "target_of"]


class TargetUnavailable(ValueError):
    """The target takes plugins of Pulumi's that only a Pulumi of the user's own can fetch."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"`holdfast` deploys to this machine alone, and the target is {name}: with a Pulumi of your own, "
            f"`pulumi up --stack {name}` (docs/kubernetes.md)"
        )


def target_of(configuration: config.Configuration) -> Target:
    """The target that the configuration names."""
    if configuration.target == "local":
        from infra.local.resources import LocalTarget

        return LocalTarget()
    from infra.kubernetes.target import KubernetesTarget

    return KubernetesTarget(configuration.kubernetes)


def main(state: Path | None = None, target: Target | None = None) -> None:
    """What `infra/__main__.py` and the Automation API both run."""
    stack = pulumi.get_stack()
    try:
        configuration = config.from_pulumi(name=stack, directory=deployment_directory(stack, state))
        target = target or target_of(configuration)
        target.check()
    except (config.ConfigError, ToolchainError) as error:
        raise pulumi.RunError(str(error)) from error
    deploy(configuration, target)


def deploy(configuration: config.Configuration, target: Target) -> dict[str, Region]:
    """Declares the whole deployment on `target`."""
    settings = configuration.settings
    foundation = target.foundation(settings)
    regions = {name: target.region(RegionArgs(name, settings, foundation)) for name in REGIONS}
    pulumi.export("manifest", foundation.manifest)
    for name, region in regions.items():
        pulumi.export(f"api_{name}", region.api)
        pulumi.export(f"agent_{name}", region.agent)
    # The active role moves without Pulumi, so no output can know it: this one says whom to ask.
    pulumi.export("active", target.who_is_active(settings))
    return regions
