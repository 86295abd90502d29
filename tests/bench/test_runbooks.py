"""A runbook is followed to the letter on a real deployment, and does there what its page says."""

from __future__ import annotations

import pytest

from tests.support.cli import Cli

pytestmark = pytest.mark.bench


def test_a_runbook_does_on_a_real_deployment_what_its_page_says(cli: Cli) -> None:
    cli("up")
    cli.settled()
    told = cli("drill", "runbook", "witness-loss", "--results", str(cli.state / "measured"))
    (result,) = told["results"]
    assert told["answer"] == "valid"
    assert [step["held"] for step in result["steps"]] == [True] * 4
    assert result["no_service"] < 5
    assert "witness-loss" in (cli.state / "measured" / "RESULTS.md").read_text(encoding="utf-8")
