"""A whole deployment on this machine: up, seen, repaired, moved, gone; told in order, on one deployment."""

from __future__ import annotations

import time

import pytest

from infra.local.leftovers import known_ports, leftovers
from infra.local.site import kill_site
from tests.support.cli import Cli

pytestmark = pytest.mark.bench

UP_SECONDS = 60.0
MOVE_SECONDS = 10.0


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
