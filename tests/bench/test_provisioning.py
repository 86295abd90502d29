"""A whole deployment on this machine: up, seen, repaired, moved, gone; told in order, on one deployment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.local.leftovers import known_ports, leftovers
from infra.local.site import kill_site

pytestmark = pytest.mark.bench

UP_SECONDS = 60.0
MOVE_SECONDS = 10.0


class Cli:
    """The command line on one state directory."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.directory = state / "local"

    def __call__(self, *arguments: str, exits: int = 0) -> dict[str, Any]:
        program = [str(Path(sys.executable).with_name("holdfast")), *arguments, "--json"]
        answer = subprocess.run(
            program,
            env={**os.environ, "HOLDFAST_STATE": str(self.state)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == exits, answer.stderr + answer.stdout
        return json.loads(answer.stdout)

    def settled(self, seconds: float = 60.0) -> dict[str, Any]:
        """The status once nothing is wrong any more."""
        deadline = time.monotonic() + seconds
        while True:
            program = [str(Path(sys.executable).with_name("holdfast")), "status", "--json", "--state", str(self.state)]
            status = json.loads(subprocess.run(program, capture_output=True, text=True, check=False).stdout)
            if status["ok"]:
                return status
            assert time.monotonic() < deadline, f"not settled in {seconds} s: {status['problems']}"
            time.sleep(0.5)


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    state = tmp_path_factory.mktemp("provisioning")
    for directory in (state, *list(state.parents)[:2]):
        directory.chmod(0o755)  # the services' account walks there
    held = Cli(state)
    yield held
    subprocess.run(
        [str(Path(sys.executable).with_name("holdfast")), "down", "--state", str(state)],
        capture_output=True,
        check=False,
    )


def test_up_provisions_everything_within_its_time(cli: Cli) -> None:
    begun = time.monotonic()
    outcome = cli("up")

    assert time.monotonic() - begun <= UP_SECONDS
    assert set(outcome["changes"].values()) == {"create"}
    status = cli.settled()
    assert (status["active"], {site["answers"] for site in status["sites"]}) == ("a", {True})


def test_up_again_changes_nothing(cli: Cli) -> None:
    assert set(cli("up")["changes"].values()) == {"same"}


def test_a_dead_region_is_seen_and_repaired(cli: Cli) -> None:
    assert kill_site("region-b", cli.directory / "region-b", cli.directory)
    assert any("region-b does not run" in problem["what"] for problem in cli("status", exits=1)["problems"])

    outcome = cli("up")
    assert "region-b" in outcome["unhealthy"]
    assert outcome["changes"]["region-b"] == "update"
    assert cli.settled()["active"] == "a"


def test_the_active_role_moves_both_ways_as_planned(cli: Cli) -> None:
    for target in ("b", "a"):
        moved = cli("switchover", "--to", target)
        assert moved["phases"][1]["seconds"] <= MOVE_SECONDS
        assert cli.settled()["active"] == target


def test_down_leaves_nothing(cli: Cli) -> None:
    used = known_ports(cli.directory)
    assert used
    cli("down")

    assert not leftovers(cli.directory, used)
    assert cli("down")["changes"] == {}
