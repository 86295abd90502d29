"""A place that the services' account can walk to, and a deployment there that is taken down at the end."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import HOLDFAST, Cli


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    # Not below pytest's own directory, which each new session of the same user closes to others.
    made = Path(tempfile.mkdtemp(prefix="holdfast-bench-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def cli(place: Path) -> Iterator[Cli]:
    yield Cli(place)
    subprocess.run([HOLDFAST, "down", "--state", str(place)], capture_output=True, check=False)
