"""An operator sees runs as they go, acts on them, and sees both a switchover and a lost region; told in order.

At the end dashboards and alerts have told of the same.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from holdfast.client import HoldfastClient
from playwright.sync_api import Browser, Page, expect
from refund_desk.tickets import bundled_tickets, read_tickets

from chaos.faults.local import LocalTarget
from infra.manifest import Manifest
from tests.support.browser import chromium, needed_chromium, sign_in, visit
from tests.support.cli import Cli
from tests.support.dashboards import Prometheus, asked
from tests.support.waiting import until

pytestmark = pytest.mark.bench

MODEL_SECONDS = 1.0
IMAGES = os.environ.get("HOLDFAST_IMAGES")
"""A folder for screenshots, where they are wanted."""


@pytest.fixture(scope="module", autouse=True)
def manifest(cli: Cli) -> Manifest:
    cli("up", "-c", f"model_latency_seconds={MODEL_SECONDS}")
    cli.settled()
    return Manifest.load(cli.directory)


@pytest.fixture(scope="module")
def client(manifest: Manifest) -> HoldfastClient:
    apis = {name: region.api for name, region in manifest.regions.items()}
    return HoldfastClient(apis, ca=manifest.ca, token=manifest.api_token_file.read_text().strip(), timeout=10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(needed_chromium()) as browser:
        yield browser


def token(manifest: Manifest, role: str) -> str:
    return (manifest.directory / "secrets" / f"console-{role}-token").read_text().strip()


@pytest.fixture(scope="module")
def pages(browser: Browser, manifest: Manifest) -> dict[str, Page]:
    """Each region's console, with an operator signed in."""
    made: dict[str, Page] = {}
    for name, region in manifest.regions.items():
        _, made[name], wrong = visit(browser)
        sign_in(made[name], f"{region.api}/console", token(manifest, "operator"))
        assert wrong == []
    return made


def shot(page: Page, name: str, *, full: bool = False) -> None:
    if IMAGES:
        page.screenshot(path=Path(IMAGES) / f"{name}.png", full_page=full)


def start(client: HoldfastClient, *runs: str, **more: object) -> None:
    tickets = [one.model_dump(mode="json", exclude_none=True) for one in read_tickets(bundled_tickets()).tickets]
    for number, run in enumerate(runs):
        # The second one ends with a refund.
        ticket = json.loads(json.dumps(tickets[(number + 1) % len(tickets)] | more))
        until(f"{run} accepted", lambda run=run, ticket=ticket: client.start(run, ticket).outcome == "ok")


def status_of(client: HoldfastClient, run: str) -> str | None:
    view = client.run(run)
    return view.status if view else None


def under_way(client: HoldfastClient, runs: list[str]) -> bool:
    """Whether each has had answers where it began, and has more to do."""
    return all(len(client.steps(run)) >= 4 for run in runs)


def console(manifest: Manifest, region: str) -> str:
    return f"{manifest.regions[region].api}/console"


def test_runs_appear_and_end_while_somebody_looks(
    pages: dict[str, Page], client: HoldfastClient, manifest: Manifest
) -> None:
    for region in ("a", "b"):
        pages[region].goto(f"{console(manifest, region)}/runs")
        expect(pages[region].get_by_text("No run was accepted yet.")).to_be_visible()
    start(client, "first", "second")
    rows = [pages[region].get_by_role("row").filter(has_text="first") for region in ("a", "b")]
    for row in rows:
        expect(row).to_contain_text("scheduled")
    for row in rows:
        expect(row).to_contain_text("completed", timeout=60_000)
    expect(pages["a"].locator("#band")).to_contain_text("Region a is active")
    expect(pages["a"].locator("#band")).to_contain_text("in step")
    expect(pages["b"].locator("#band")).to_contain_text("Region b is standby")
    expect(pages["b"].locator("#band")).to_contain_text("Read-only")
    pages["b"].goto(f"{console(manifest, 'b')}/runs/first")
    expect(pages["b"].locator(".steps")).to_contain_text("issue_refund")
    expect(pages["b"].get_by_text("Run again")).to_have_count(0)


def test_a_run_is_cancelled(pages: dict[str, Page], client: HoldfastClient, manifest: Manifest) -> None:
    start(client, "unwanted")
    page = pages["a"]
    page.goto(f"{console(manifest, 'a')}/runs/unwanted")
    page.get_by_text("Cancel…").click()
    page.get_by_role("button", name="Cancel unwanted").click()
    expect(page.get_by_text("Run unwanted was cancelled.")).to_be_visible()
    expect(page.locator(".head")).to_contain_text("terminated")
    assert status_of(client, "unwanted") == "terminated"


def test_a_held_run_is_approved_and_goes_on(pages: dict[str, Page], client: HoldfastClient, manifest: Manifest) -> None:
    start(client, "held", hold_seconds=600)
    page = pages["a"]
    page.goto(f"{console(manifest, 'a')}/runs/held")
    expect(page.locator(".waits")).to_contain_text("await_supervisor", timeout=60_000)
    shot(page, "console-approval")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("The call is approved; the run goes on.")).to_be_visible()
    expect(page.locator(".head")).to_contain_text("completed", timeout=60_000)


def test_a_run_is_run_again_from_a_step_downloaded_and_replayed(
    pages: dict[str, Page], client: HoldfastClient, manifest: Manifest
) -> None:
    page = pages["a"]
    page.goto(f"{console(manifest, 'a')}/runs/first")
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download history").click()
    assert '"instance_id": "first"' in downloading.value.path().read_text()
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_text("Today’s code does the same")).to_be_visible(timeout=60_000)
    page.goto(f"{console(manifest, 'a')}/runs/first")
    page.get_by_text("Run again…").click()
    refund = page.locator("select[name=from_step] option", has_text="issue_refund").get_attribute("value")
    page.locator("select[name=from_step]").select_option(refund)
    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_text("Run first is run again as first~2.")).to_be_visible()
    expect(page.locator(".head")).to_contain_text("completed", timeout=60_000)
    view = client.run("first~2")
    assert view is not None
    assert (view.rerun_of, str(view.from_step)) == ("first", refund)


def test_an_operator_switches_over_and_sees_the_runs_go_on_in_the_other_region(
    pages: dict[str, Page], client: HoldfastClient, manifest: Manifest, cli: Cli
) -> None:
    runs = [f"moving-{number}" for number in range(6)]
    start(client, *runs)
    page = pages["a"]
    page.goto(f"{console(manifest, 'a')}/regions")
    until("under way", lambda: under_way(client, runs))
    page.get_by_text("Switch over to region b…").click()
    page.get_by_label("Type b to confirm").fill("b")
    page.get_by_role("button", name="Switch over").click()
    expect(page.get_by_text("Region b takes over")).to_be_visible()
    expect(page.locator("#band")).to_contain_text("Region a is standby", timeout=60_000)
    there = pages["b"]
    there.goto(f"{console(manifest, 'b')}/regions")
    expect(there.locator("#band")).to_contain_text("Region b is active", timeout=60_000)
    expect(there.locator("#epochs tbody tr").first).to_contain_text("woken in", timeout=60_000)
    until("all moved", lambda: all(status_of(client, run) == "completed" for run in runs))
    there.goto(f"{console(manifest, 'b')}/runs/moving-0")
    expect(there.locator(".failover")).to_contain_text("Failover to region b")
    assert {"a", "b"} <= {one.strip() for one in there.locator(".steps .at .place").all_inner_texts()}
    cli.settled()


def test_a_lost_region_is_seen_where_the_runs_went_on(
    pages: dict[str, Page], client: HoldfastClient, manifest: Manifest, browser: Browser
) -> None:
    runs = [f"lost-{number}" for number in range(8)]
    start(client, *runs)
    page, here = pages["a"], console(manifest, "a")
    page.goto(f"{here}/runs")
    until("under way", lambda: under_way(client, runs))
    assert LocalTarget(manifest).kill("b", "everything").proven
    expect(page.locator("#band")).to_contain_text("Region a is active", timeout=60_000)
    expect(page.locator("#band")).to_contain_text("No standby is in step", timeout=60_000)
    until("the end of all", lambda: all(status_of(client, run) == "completed" for run in runs))
    cut = next(run for run in runs if any(step.issued > 1 for step in client.steps(run)))
    page.goto(f"{here}/runs/{cut}")
    expect(page.locator(".failover")).to_contain_text("Failover to region a")
    expect(page.locator(".steps .tag.moved").first).to_be_visible()
    page.goto(f"{here}/runs")
    expect(page.get_by_role("row").filter(has_text="lost-0").locator(".where")).to_contain_text("b→a")
    page.goto(f"{here}/audit")
    for deed in ("cancel", "approve", "rerun", "download history", "replay", "switch over", "sign in"):
        expect(page.get_by_role("cell", name=deed).first).to_be_visible()
    for scheme in ("light", "dark"):
        context, page, wrong = visit(browser, scheme)
        sign_in(page, f"{here}/runs", token(manifest, "operator"))
        shot(page, f"console-runs-{scheme}")
        page.goto(f"{here}/runs/{cut}")
        shot(page, f"console-run-{scheme}", full=True)
        page.goto(f"{here}/regions")
        shot(page, f"console-regions-{scheme}")
        page.goto(f"{here}/audit")
        shot(page, f"console-audit-{scheme}")
        assert wrong == []
        context.close()


def test_every_panel_has_told_of_it_and_the_alerts_that_a_lost_region_causes_fire(
    manifest: Manifest, client: HoldfastClient
) -> None:
    prometheus = Prometheus(manifest)
    lost = {"RegionDown", "NoSynchronousStandby", "LeaseStoreMemberDown"}
    until("the alerts", lambda: lost <= prometheus.firing())
    assert "NoActiveRegion" not in prometheus.firing()
    began = manifest.ca.stat().st_mtime
    silent = [one for one in asked() if not prometheus.range(one.expr, began, time.time())]
    assert silent == []
