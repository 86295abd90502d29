"""Where a deployment lives on this machine: one state directory, one directory in it per stack.

Nothing of a deployment is ever written outside the state directory.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["MANIFEST", "deployment_directory", "manifest_path", "project_root", "state_directory"]

MANIFEST = "deployment.json"


def project_root() -> Path:
    """The checkout: where `Pulumi.yaml` is."""
    return Path(__file__).resolve().parent.parent


def state_directory(state: Path | str | None = None) -> Path:
    """The state directory, absolute: as given, else `$HOLDFAST_STATE`, else `.holdfast` in the checkout."""
    chosen = state or os.environ.get("HOLDFAST_STATE") or project_root() / ".holdfast"
    return Path(os.path.abspath(Path(chosen).expanduser()))


def deployment_directory(stack: str, state: Path | str | None = None) -> Path:
    """Everything of one stack's deployment is below this directory."""
    return state_directory(state) / stack


def manifest_path(stack: str, state: Path | str | None = None) -> Path:
    """The deployment's manifest: where its parts answer. It holds no secret."""
    return deployment_directory(stack, state) / MANIFEST
