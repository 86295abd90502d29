"""An active region in memory, and a client that holds its token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from service.api import build_app

from tests.support.regions import TOKEN, MemoryIndex, MemoryTrail, MemoryWorkflows, region, write_role


@pytest.fixture
def asked() -> list[str]:
    """What was asked of the index and of the sidecar, in order."""
    return []


@pytest.fixture
def index(asked: list[str]) -> MemoryIndex:
    return MemoryIndex(asked)


@pytest.fixture
def workflows(asked: list[str]) -> MemoryWorkflows:
    return MemoryWorkflows(asked)


@pytest.fixture
def trail() -> MemoryTrail:
    return MemoryTrail()


@pytest.fixture
def role_file(tmp_path: Path) -> Path:
    path = tmp_path / "role.json"
    write_role(path, "active")
    return path


@pytest.fixture
def client(
    tmp_path: Path, index: MemoryIndex, workflows: MemoryWorkflows, trail: MemoryTrail, role_file: Path
) -> Iterator[TestClient]:
    app = build_app(region(tmp_path, index, workflows, trail=trail), TOKEN)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with TestClient(app, raise_server_exceptions=False, headers=headers) as client:
        yield client
