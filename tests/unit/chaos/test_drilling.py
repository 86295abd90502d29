"""A drill has its deployment for itself, and leaves none behind that it made."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from rich.console import Console

from chaos import drill
from chaos.drill import Drill, alone
from infra.automation import Busy, DeploymentError
from tests.support.deployments import manifest

pytestmark = pytest.mark.unit


class ToldDeployment:
    """Comes up or not, and remembers what was done to it."""

    did: ClassVar[list[str]] = []
    fails: ClassVar[bool] = False
    stands: ClassVar[bool] = False

    def __init__(self, stack: str, settings: dict[str, Any], state: Path | None) -> None:
        assert state is not None
        self.state, self.directory, self.settings = state, state / "local", dict(settings)
        self.exists = self.stands

    def up(self, _: object) -> None:
        self.did.append(f"up {self.settings}")
        if self.fails:
            raise DeploymentError("no port is free", (), "repeat it")

    def destroy(self, _: object) -> None:
        self.did.append("destroy")


@pytest.fixture
def deployment(monkeypatch: pytest.MonkeyPatch) -> type[ToldDeployment]:
    fresh = type("Fresh", (ToldDeployment,), {"did": []})
    monkeypatch.setattr(drill, "Deployment", fresh)
    return fresh


def prepared(state: Path, plant: str | None = None, keep: bool = False, said: io.StringIO | None = None) -> Drill:
    return Drill("local", state, {"workers": "2"}, plant, keep, Console(file=said or io.StringIO(), width=200))


def test_a_deployment_that_was_made_for_a_drill_is_gone_afterwards(
    deployment: type[ToldDeployment], tmp_path: Path
) -> None:
    with prepared(tmp_path):
        assert deployment.did == ["up {'workers': '2'}"]
    assert deployment.did[-1] == "destroy"


def test_a_deployment_that_stood_before_stands_afterwards(deployment: type[ToldDeployment], tmp_path: Path) -> None:
    deployment.stands = True
    with prepared(tmp_path):
        pass
    assert deployment.did == []


def test_a_deployment_is_repaired_and_then_healthy(
    deployment: type[ToldDeployment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.stands = True
    with prepared(tmp_path) as one:
        monkeypatch.setattr(one, "wait_healthy", lambda: deployment.did.append("healthy"))
        one.repair()
    assert deployment.did == ["up {'workers': '2'}", "healthy"]


def test_a_deployment_is_kept_where_that_is_asked(deployment: type[ToldDeployment], tmp_path: Path) -> None:
    said = io.StringIO()
    with prepared(tmp_path, keep=True, said=said):
        pass
    assert "destroy" not in deployment.did
    assert "`holdfast down` removes it" in said.getvalue()


def test_a_deployment_that_does_not_come_up_is_removed(deployment: type[ToldDeployment], tmp_path: Path) -> None:
    deployment.fails = True
    with pytest.raises(DeploymentError), prepared(tmp_path):
        pass
    assert deployment.did[-1] == "destroy"
    deployment.fails = False
    with prepared(tmp_path):
        pass


def test_a_bug_is_planted_in_a_deployment_of_its_own(
    deployment: type[ToldDeployment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.stands = True
    monkeypatch.setenv("PYTHONPATH", "mine")
    with prepared(tmp_path, plant="no-idempotency-key") as made:
        assert made._deployment.state == tmp_path / "planted" / "no-idempotency-key"
        assert deployment.did == ["up {'workers': '2', 'environment': 'PYTHONPATH'}"]
    assert deployment.did[-1] == "destroy"
    assert os.environ["PYTHONPATH"] == "mine"


def test_two_drills_do_not_share_a_deployment(deployment: type[ToldDeployment], tmp_path: Path) -> None:
    with prepared(tmp_path), pytest.raises(Busy, match="another drill runs in"), prepared(tmp_path):
        pass
    with alone(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_the_standby_receives_is_held_back_before_the_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    def post(url: str, *, json: dict[str, Any], **_: Any) -> httpx.Response:
        told.append((url, json["type"]))
        return httpx.Response(200, request=httpx.Request("POST", url))

    monkeypatch.setattr(drill.httpx, "post", post)
    monkeypatch.setattr(drill.time, "sleep", told.append)
    made = manifest(tmp_path)
    strike = drill._stalling(lambda: told.append("moment") or {"worker-1"}, made, 1.0)
    wan = made.model_copy(update={"wan": made.wan.model_copy(update={"links": []})})
    assert strike(15.0) == set()
    assert told == ["moment", (f"{made.wan.toxiproxy}/proxies/b-a.postgres/toxics", "timeout"), 1.0]
    with pytest.raises(ValueError, match="not enough values"):
        drill._stalling(set, wan, 1.0)
