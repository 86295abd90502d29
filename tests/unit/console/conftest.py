"""A console over an active region in memory, and people who signed in to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic_ai_dapr import Export
from service.api import build_app

from tests.support.recorded_runs import finished, scripted
from tests.support.regions import (
    OPERATOR,
    TOKEN,
    VIEWER,
    MemoryEpochs,
    MemoryIndex,
    MemoryTrail,
    MemoryWorkflows,
    ToldAgent,
    console,
    region,
    write_role,
)

ADDRESS = "https://console.example"


class Passing:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Person:
    """Somebody's browser: keeps cookies, and sends the forms of the pages that it has seen."""

    client: TestClient

    def get(self, path: str) -> httpx.Response:
        return self.client.get(f"/console{path}", follow_redirects=False)

    def post(self, path: str, **fields: str) -> httpx.Response:
        fields.setdefault("csrf", self.csrf())
        return self.client.post(f"/console{path}", data=fields, follow_redirects=False)

    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.get("/audit").text)
        return found[1] if found else ""

    def sign_in(self, token: str, who: str = "Ada", wanted: str = "") -> httpx.Response:
        fields = {"token": token, "who": who, "next": wanted}
        return self.client.post("/console/login", data=fields, follow_redirects=False)


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def index(asked: list[str]) -> MemoryIndex:
    return MemoryIndex(asked)


@pytest.fixture
def workflows(asked: list[str]) -> MemoryWorkflows:
    return MemoryWorkflows(asked)


@pytest.fixture
def epochs() -> MemoryEpochs:
    return MemoryEpochs()


@pytest.fixture
def trail() -> MemoryTrail:
    return MemoryTrail()


@pytest.fixture
def agent() -> ToldAgent:
    return ToldAgent()


@pytest.fixture
def clock() -> Passing:
    return Passing()


@pytest.fixture
def role_file(tmp_path: Path) -> Path:
    write_role(tmp_path / "role.json", "active")
    return tmp_path / "role.json"


@pytest.fixture
def app(
    tmp_path: Path,
    index: MemoryIndex,
    workflows: MemoryWorkflows,
    epochs: MemoryEpochs,
    trail: MemoryTrail,
    agent: ToldAgent,
    clock: Passing,
    role_file: Path,
) -> FastAPI:
    console_config = {
        "viewer_token_file": str(tmp_path / "viewer"),
        "operator_token_file": str(tmp_path / "operator"),
        "agent": "https://agent.example",
        "model": "refund_desk:deterministic",
    }
    own = region(tmp_path, index, workflows, trail=trail, console=console_config, max_body_bytes=20_000)
    return build_app(own, TOKEN, console(own, epochs, agent, clock=clock))


@pytest.fixture
def visitor(app: FastAPI) -> Iterator[Callable[[], Person]]:
    """Makes browsers in which nobody has signed in yet."""

    def make() -> Person:
        return Person(TestClient(app, base_url=ADDRESS, raise_server_exceptions=False))

    return make


@pytest.fixture
def operator(visitor: Callable[[], Person]) -> Person:
    person = visitor()
    assert person.sign_in(OPERATOR).status_code == 303
    return person


@pytest.fixture
def viewer(visitor: Callable[[], Person]) -> Person:
    person = visitor()
    assert person.sign_in(VIEWER, "Bob").status_code == 303
    return person


@pytest.fixture
def ended(index: MemoryIndex, workflows: MemoryWorkflows) -> Export:
    """The run `run-1`, which has called a tool and ended."""
    export = finished(scripted([[("double", 4)]]))
    accept(index, workflows, "run-1")
    workflows.become("run-1", "completed", output={"output": "done"})
    workflows.histories["run-1"], workflows.exports["run-1"] = export.history(), export
    index.close_run("run-1", "completed")
    return export


def accept(index: MemoryIndex, workflows: MemoryWorkflows, *runs: str, **more: object) -> None:
    for run in runs:
        index.accept(run, {"run_id": run, "prompt": "a refund", **more}, agent="refund-desk")  # type: ignore[dict-item]
        workflows.become(run, "running")
