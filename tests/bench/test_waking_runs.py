"""Waking runs after an activation costs what is open, however many have ended."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from holdfast.client import HoldfastClient
from refund_desk.tickets import bundled_tickets, read_tickets

from infra.local.layout import SITE_NAMES
from infra.manifest import Manifest
from tests.support.cli import Cli

pytestmark = pytest.mark.bench

OPEN, ENDED, SECONDS = 500, 10_000, 60.0


def test_500_open_runs_are_woken_in_time_beside_10000_ended_ones(cli: Cli) -> None:
    cli("up", "-c", "model_latency_seconds=60")
    cli.settled()
    manifest = Manifest.load(cli.directory)
    token = manifest.api_token_file.read_text().strip()
    apis = {name: region.api for name, region in manifest.regions.items()}
    client = HoldfastClient(apis, ca=manifest.ca, token=token, timeout=30)
    assert client.active_region() == "a"
    tickets = [ticket.model_dump(mode="json", exclude_none=True) for ticket in read_tickets(bundled_tickets()).tickets]

    def start(number: int) -> None:
        while client.start(f"run-{number}", tickets[number % len(tickets)]).outcome != "ok":
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(start, range(OPEN)))
    dsn = (cli.directory / SITE_NAMES["a"] / "config" / "app.dsn").read_text().strip()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "insert into holdfast.runs (run_id, input, input_digest, scheduled_at, closed_at, status)"
            " select 'ended-' || n, '{}', 'x', now(), now(), 'completed' from generate_series(1, %s) n",
            (ENDED,),
        )

    cli("switchover")

    def events(kind: str) -> list[dict[str, Any]]:
        lines = manifest.regions["b"].events_file.read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    deadline = time.monotonic() + SECONDS
    while not (finished := events("sweep-finished")):
        assert time.monotonic() < deadline, f"no sweep ended in {SECONDS} s"
        time.sleep(0.1)
    signalled = events("sweep-signalled")
    assert [event["runs"] for event in finished] == [OPEN]
    assert len({event["run_id"] for event in signalled}) == OPEN
    waited = max(event["at"] for event in signalled) - events("activated")[0]["at"]
    print(f"{OPEN} open runs beside {ENDED} ended ones were woken {waited:.1f} s after the activation")
