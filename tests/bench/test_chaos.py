"""A subset of the catalogue on a real deployment, small enough for every change; the whole has its own command."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import asdict
from typing import Any

import pytest

from infra.manifest import Manifest
from infra.status import observe
from tests.support.cli import HOLDFAST, Cli

pytestmark = pytest.mark.bench

CHOSEN = ["reminders-wiped", "standby-lost", "region-frozen"]
"""A loss that only the region agent mends, a loss that must stop nobody, and a region that comes back as a zombie."""


def test_the_chosen_experiments_are_valid(cli: Cli) -> None:
    cli("up")
    cli.settled()
    told = cli("chaos", "run", *CHOSEN)
    verdicts: list[dict[str, Any]] = told["verdicts"]
    assert {one["experiment"]: one["answer"] for one in verdicts} == dict.fromkeys(CHOSEN, "valid")


def test_an_experiment_that_is_interrupted_takes_back_what_is_in_force(cli: Cli) -> None:
    cli.settled()
    environment = {**os.environ, "HOLDFAST_STATE": str(cli.state)}
    playing = subprocess.Popen([HOLDFAST, "chaos", "run", "standby-isolated", "--json"], env=environment)
    deadline = time.monotonic() + 60
    while not any(link["enabled"] is False for link in _links(cli)):
        assert time.monotonic() < deadline, "no link was cut in 60 s"
        time.sleep(0.2)
    playing.send_signal(signal.SIGINT)
    assert playing.wait(60) == 2
    assert not [link for link in _links(cli) if link["enabled"] is False or link["toxics"]]
    cli.settled()


def _links(cli: Cli) -> list[dict[str, Any]]:
    return [asdict(link) for link in observe(Manifest.load(cli.directory)).links]
