"""Every command that the README shows works, in its order, as a newcomer types it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from infra.local.leftovers import known_ports, leftovers
from infra.state import project_root
from tests.support.cli import Cli

pytestmark = pytest.mark.bench

ELSEWHERE = {"make test"}
"""This is it."""
KEPT = {"reports", "chaos-durations.json"}
"""What outlives a deployment: reports, and how long each experiment took."""


def commands() -> list[str]:
    readme = (project_root() / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and line not in ELSEWHERE]


def test_the_readme_shows_commands() -> None:
    assert {"make drill", ".venv/bin/holdfast up", ".venv/bin/holdfast down"} <= set(commands())


def test_the_commands_of_the_readme_work_and_leave_nothing(cli: Cli) -> None:
    environment = {**os.environ, "HOLDFAST_STATE": str(cli.state)}
    for command in commands():
        ran = subprocess.run(
            command.split(), env=environment, cwd=project_root(), capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
        if command == "make drill":
            (report,) = (cli.state / "reports").iterdir()
            assert {"history", "verdict.json", "report.html", "journal.json", "logs"} <= set(os.listdir(report))
            assert "verdict valid" in ran.stdout
            assert not leftovers(cli.directory, known_ports(cli.directory))
    assert not leftovers(cli.directory, known_ports(cli.directory))
    left = {path.name for path in Path(cli.state).iterdir()} - KEPT
    assert left in (set(), {"pulumi"}, {"local"})
