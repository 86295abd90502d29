"""A state directory that the services' account can walk to, whose deployment is taken down at the end."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import HOLDFAST, Cli


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    # Not below pytest's own directory, which each new session of the same user closes to others.
    state = Path(tempfile.mkdtemp(prefix="holdfast-bench-"))
    state.chmod(0o755)
    yield Cli(state)
    subprocess.run([HOLDFAST, "down", "--state", str(state)], capture_output=True, check=False)
    shutil.rmtree(state)
