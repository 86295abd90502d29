"""A user's own `pulumi up`, `preview`, `refresh` and `destroy` work from the root of a checkout.

Here Pulumi is built from its Go module, and `tests.support.language_host` stands in for the language host
that a user's Pulumi brings.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.local.part import PARTS
from infra.state import project_root
from infra.toolchain import require
from tests.support.language_host import install

pytestmark = pytest.mark.component

PROGRAM = """
from infra.program import main
from tests.support.parts import FileTarget

main(target=FileTarget())
"""


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
        resources = json.loads(self.pulumi("stack", "export", "--stack", "local"))["deployment"].get(
            "resources", []
        )
        return {
            resource["inputs"]["part"]: resource["outputs"]["healthy"]
            for resource in resources
            if ":dynamic/holdfast:" in resource["type"]
        }


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = tmp_path / "checkout"
    root.mkdir()
    for path in project_root().glob("Pulumi*.yaml"):
        shutil.copy(path, root)
    (root / ".venv").symlink_to(sys.prefix)
    (root / "infra").symlink_to(project_root() / "infra")
    (tmp_path / "backend").mkdir()
    plugins = install(tmp_path / "plugins")
    environment = {
        "PATH": os.pathsep.join([str(plugins), os.environ["PATH"]]),
        "HOME": str(tmp_path),
        "HOLDFAST_STATE": str(tmp_path / "state"),
        "PULUMI_BACKEND_URL": f"file://{tmp_path / 'backend'}",
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_CONFIG_PASSPHRASE": "x",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }
    made = Checkout(root, environment)
    made.pulumi("stack", "init", "local")
    return made


@pytest.fixture
def files(checkout: Checkout) -> Checkout:
    """The checkout with parts that are files."""
    (checkout.root / "infra").unlink()
    (checkout.root / "infra").mkdir()
    (checkout.root / "infra" / ".venv").symlink_to(sys.prefix)
    (checkout.root / "infra" / "__main__.py").write_text(PROGRAM)
    return checkout


def test_a_preview_of_the_checkouts_own_program_shows_every_part(checkout: Checkout) -> None:
    said = checkout.pulumi("preview")

    for part in PARTS:
        assert f" {part} create" in said
    assert not Path(checkout.environment["HOLDFAST_STATE"]).exists()


def test_a_wrong_configuration_is_refused_by_key(checkout: Checkout) -> None:
    checkout.pulumi("config", "set", "--path", "holdfast:lease.ttl", "10")
    checkout.pulumi("config", "set", "holdfast:worker", "3")
    said = checkout.pulumi("up", "--yes", fails=True)

    assert "holdfast:lease.ttl: found 10; allowed: a whole number from 20 to 600" in said
    assert "did you mean holdfast:workers?" in said
    assert checkout.parts() == {}


@pytest.mark.parametrize("stack", ["kind", "cloud"])
def test_a_stack_of_a_later_version_is_refused(checkout: Checkout, stack: str) -> None:
    checkout.pulumi("stack", "init", stack)

    assert f"target {stack} is not available in this version" in checkout.pulumi("preview", fails=True)


def test_pulumi_brings_up_looks_repairs_and_destroys(files: Checkout) -> None:
    state = Path(files.environment["HOLDFAST_STATE"])
    said = files.pulumi("up", "--yes")
    assert "starting region-b" in said
    assert files.parts() == dict.fromkeys(PARTS, True)
    assert files.pulumi("stack", "output", "api_a").strip() == "https://127.0.0.1/region-a"

    files.pulumi("up", "--yes", "--expect-no-changes")

    (state / "local" / "region-a" / "alive").unlink()
    files.pulumi("refresh", "--yes")
    assert files.parts() == {**dict.fromkeys(PARTS, True), "region-a": False}
    assert "region-a update" in files.pulumi("preview")

    assert "repairing: region-a is dead" in files.pulumi("up", "--yes")
    assert files.parts() == dict.fromkeys(PARTS, True)

    files.pulumi("destroy", "--yes")
    assert files.parts() == {}
    assert not (state / "local").exists()


def test_pulumi_up_alone_repairs_what_died(files: Checkout) -> None:
    files.pulumi("up", "--yes")
    alive = Path(files.environment["HOLDFAST_STATE"]) / "local" / "wan" / "alive"
    alive.unlink()

    files.pulumi("up", "--yes")
    assert alive.exists()


def test_a_failed_up_may_be_destroyed_with_what_it_left(files: Checkout) -> None:
    state = Path(files.environment["HOLDFAST_STATE"])
    (state / "orders").mkdir(parents=True)
    (state / "orders" / "fail-witness").touch()
    said = files.pulumi("up", "--yes", fails=True)
    assert "witness: postgres did not become ready" in said
    assert (state / "local" / "witness").exists()

    files.pulumi("destroy", "--yes")
    assert not (state / "local").exists()
