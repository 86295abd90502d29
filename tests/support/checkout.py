"""A copy of the checkout in which a user runs Pulumi, with the stand-in language host."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.state import project_root
from infra.toolchain import require
from tests.support.language_host import install


@dataclass(frozen=True)
class Checkout:
    """A directory with the project's files, in which a user runs Pulumi."""

    root: Path
    environment: Mapping[str, str]

    def pulumi(self, *arguments: str, fails: bool = False) -> str:
        answer = subprocess.run(
            [str(require(["pulumi"])["pulumi"]), "--non-interactive", *arguments],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        said = answer.stdout + answer.stderr
        assert (answer.returncode != 0) == fails, said
        return said

    def parts(self) -> dict[str, bool]:
        """Every part in the state, and whether it is healthy there."""
        resources = json.loads(self.pulumi("stack", "export", "--stack", "local"))["deployment"].get("resources", [])
        return {
            resource["inputs"]["part"]: resource["outputs"]["healthy"]
            for resource in resources
            if ":dynamic/holdfast:" in resource["type"]
        }


def make_checkout(directory: Path) -> Checkout:
    """A checkout in `directory` with a stack `local`, its state, and a Pulumi backend of its own."""
    root = directory / "checkout"
    root.mkdir()
    for path in project_root().glob("Pulumi*.yaml"):
        shutil.copy(path, root)
    (root / ".venv").symlink_to(sys.prefix)
    (root / "infra").symlink_to(project_root() / "infra")
    (directory / "backend").mkdir()
    plugins = install(directory / "plugins")
    environment = {
        "PATH": os.pathsep.join([str(plugins), os.environ["PATH"]]),
        "HOLDFAST_STATE": str(directory / "state"),
        "PULUMI_BACKEND_URL": f"file://{directory / 'backend'}",
        "PULUMI_HOME": str(directory / "home"),
        "PULUMI_CONFIG_PASSPHRASE": "x",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }
    # The tools are found where they are for everybody else.
    kept = ("HOME", "HOLDFAST_CACHE", "XDG_CACHE_HOME")
    environment |= {name: os.environ[name] for name in kept if name in os.environ}
    made = Checkout(root, environment)
    made.pulumi("stack", "init", "local")
    return made
