"""Deployments of real processes, in directories that the services' account can enter."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local import target
from infra.local.layout import Layout
from infra.local.site import Site, kill_site
from infra.local.supervisor import start_site
from infra.toolchain import ToolchainError, require
from infra.topology import Settings


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """An empty deployment directory; whatever runs in it is ended afterwards."""
    try:
        require(["process-compose"])
    except ToolchainError as error:
        pytest.skip(str(error))
    # pytest's own directories are closed to other users.
    parent = Path(tempfile.mkdtemp(prefix="holdfast-test-"))
    parent.chmod(0o755)
    made = parent / "local"
    made.mkdir()
    yield made
    for part in reversed(target.PARTS):
        kill_site(part, made / part, made)
    shutil.rmtree(parent)


@pytest.fixture(scope="module")
def settings(directory: Path) -> Settings:
    return Settings(name="test", directory=directory)


Start = Callable[[str, set[str]], Site]


@pytest.fixture(scope="module")
def layout(settings: Settings) -> Layout:
    target.converge("root", settings, lambda _: None)
    return target.layout_of(settings)


@pytest.fixture(scope="module")
def start(settings: Settings, layout: Layout) -> Start:
    """Starts some of a part's processes: the database tier needs no app."""

    def start(part: str, names: set[str]) -> Site:
        target._write_files(part, layout)
        whole = target.site_of(part, layout)
        chosen = tuple(process for process in whole.processes if process.name in names)
        site = dataclasses.replace(whole, processes=chosen)
        start_site(site)
        return site

    return start
