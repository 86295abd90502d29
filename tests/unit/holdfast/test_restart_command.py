"""Processes are restarted by name; what there is not is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from holdfast.cli import main

import infra.manifest
import infra.restart
from infra.manifest import Manifest, Region
from infra.restart import Restarted
from infra.switchover import NotFinished
from tests.support.deployments import manifest

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def restart(_: Region, names: Sequence[str], ended: Callable[[Restarted], None]) -> list[Restarted]:
        if "sentry" in names:
            raise NotFinished("sentry of region-a does not run again")
        done = [Restarted(name, 1.25) for name in names]
        for one in done:
            ended(one)
        return done

    def chosen(_: Region, words: Sequence[str]) -> list[str]:
        if "flood" in words:
            raise LookupError("region-a has no process 'flood'; it has api")
        return list(words)

    monkeypatch.setattr(Manifest, "load", lambda _: manifest(tmp_path))
    monkeypatch.setattr(infra.restart, "restart", restart)
    monkeypatch.setattr(infra.restart, "chosen", chosen)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["restart", *arguments])


def test_each_process_that_runs_again_is_told() -> None:
    result = run("a", "api", "worker-1")
    assert result.exit_code == 0
    assert [line.split() for line in result.output.splitlines()] == [
        ["1.2", "s", "api", "of", "region", "a", "runs", "again"],
        ["1.2", "s", "worker-1", "of", "region", "a", "runs", "again"],
    ]
    told = json.loads(run("a", "api", "--json").stdout)
    assert told == {"ok": True, "region": "a", "restarted": [{"name": "api", "seconds": 1.25}]}


REFUSED = [
    (["c", "api"], 2, "there is no region 'c'; there are a, b"),
    (["a", "flood"], 2, "region-a has no process 'flood'; it has api"),
    (["a", "sentry"], 1, "sentry of region-a does not run again"),
]


@pytest.mark.parametrize(("arguments", "code", "said"), REFUSED)
def test_what_can_not_be_restarted_is_named(arguments: list[str], code: int, said: str) -> None:
    result = run(*arguments, "--json")
    assert result.exit_code == code
    assert json.loads(result.stdout)["error"] == said
