"""The console over a real database, in a real browser: live, fast with 10,000 runs, by keyboard alone, and inert."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect
from run_index import AuditLog, Epochs, RunIndex
from service.api import build_app
from service.console import Console
from service.console.access import Sessions
from service.console.masking import Masks

from infra.local.identity import Authority, KeyPair
from tests.component.dapr_stack import free_ports
from tests.component.run_index.conftest import Database, server
from tests.support.browser import chromium, needed_chromium, sign_in, visit
from tests.support.recorded_runs import finished, scripted
from tests.support.regions import (
    OPERATOR,
    TOKEN,
    VIEWER,
    MemoryEpochs,
    MemoryWorkflows,
    ToldAgent,
    console,
    region,
    write_role,
)

pytestmark = pytest.mark.component

__all__ = ["server"]

MANY, MANY_MILLISECONDS = 10_000, 1000
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
CONTRAST = """() => {
  const light = (part) => {
    const value = part / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const luminance = (layers) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const color of layers) {
      canvas.fillStyle = color;
      canvas.fillRect(0, 0, 1, 1);
    }
    const [red, green, blue] = canvas.getImageData(0, 0, 1, 1).data;
    return 0.2126 * light(red) + 0.7152 * light(green) + 0.0722 * light(blue);
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!text || !element.checkVisibility() || element.closest(".hidden, .skip, option")) continue;
    const behind = [];
    for (let one = element; one; one = one.parentElement) behind.unshift(getComputedStyle(one).backgroundColor);
    const both = [luminance(behind), luminance([...behind, getComputedStyle(element).color])];
    const ratio = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    if (ratio < 4.5) poor.push(`${element.outerHTML.slice(0, 60)} ${ratio.toFixed(2)}`);
  }
  return poor;
}"""
"""What is written with less contrast than WCAG's AA asks for."""
UNNAMED = """() => {
  const all = document.querySelectorAll("input:not([type=hidden]), select, button, a, pre, summary, svg[role=img]");
  const named = (one) => one.labels?.length || one.textContent.trim() || one.getAttribute("aria-label");
  return [...all].filter((one) => !named(one)).map((one) => one.outerHTML.slice(0, 80));
}"""
"""What has no name for those who don't see it."""
ROWS = """
insert into holdfast.runs (run_id, input, input_digest, accepted_at, scheduled_at, closed_at, status, agent)
select 'run-' || n, jsonb_build_object('text', repeat('x', 2000)), 'x', now() - n * interval '1 minute', now(),
       case when n > 20 then now() end, case when n %% 50 = 0 then 'failed' else 'completed' end, 'refund-desk'
from generate_series(1, %s) n
"""


@dataclass
class Served:
    """A console, and what is behind it."""

    url: str
    index: RunIndex
    workflows: MemoryWorkflows
    epochs: Epochs
    agent: ToldAgent
    role_file: Path
    database: Database
    sessions: Sessions

    def path(self, rest: str) -> str:
        return f"{self.url}/console{rest}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, server: Database) -> Iterator[Served]:
    place = tmp_path_factory.mktemp("console")
    pair = KeyPair(place / "node.crt", place / "node.key")
    Authority(place).leaf(pair, "console")
    index = RunIndex(server.dsn)
    index.ensure_schema()
    write_role(place / "role.json", "active")
    workflows, agent = MemoryWorkflows([]), ToldAgent()
    trail = AuditLog(index.database)
    own = region(place, index, workflows, trail=trail, rate_per_second=10_000)  # type: ignore[arg-type]
    told = console(own, MemoryEpochs(), agent)
    made = Console(
        region=own,
        sessions=Sessions({"viewer": VIEWER, "operator": OPERATOR}, lifetime=3600, idle=600),
        epochs=Epochs(index.database),
        neighbour=told.neighbour,
        masks=Masks(),
    )
    port = free_ports(1)[0]
    config = uvicorn.Config(
        build_app(own, TOKEN, made),
        host="127.0.0.1",
        port=port,
        ssl_certfile=pair.certificate,
        ssl_keyfile=str(pair.key),
        log_level="warning",
    )
    process = uvicorn.Server(config)
    thread = threading.Thread(target=process.run)
    thread.start()
    deadline = time.monotonic() + 20
    while not process.started:
        assert time.monotonic() < deadline, "the console did not start within 20 s"
    yield Served(
        f"https://127.0.0.1:{port}", index, workflows, made.epochs, agent, place / "role.json", server, made.sessions
    )
    process.should_exit = True
    thread.join()
    index.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(needed_chromium()) as browser:
        yield browser


@pytest.fixture(autouse=True)
def afresh(served: Served) -> None:
    served.database.execute("truncate holdfast.runs, holdfast.epochs, holdfast.audit")
    write_role(served.role_file, "active")
    # All tests sign in from one address, more often than people do.
    served.sessions._tries.clear()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """An operator's, who has signed in; nothing may go wrong in it."""
    context, page, wrong = visit(browser)
    sign_in(page, served.path("/runs"), OPERATOR)
    yield page
    assert wrong == []
    context.close()


def accept(served: Served, *runs: str) -> None:
    for run in runs:
        served.index.accept(run, {"run_id": run, "prompt": HOSTILE}, agent="refund-desk")
        served.workflows.become(run, "running")


def end(served: Served, run: str) -> None:
    """A run that calls a tool, in one region, and goes on in the other."""
    export = finished(scripted([[("double", 4)], [("even", 3)]]))
    history = export.history()
    served.workflows.histories[run], served.workflows.exports[run] = history, export
    served.workflows.become(run, "completed", output={"output": HOSTILE})
    served.index.close_run(run, "completed")
    served.epochs.record(2, "a", history[0].timestamp - timedelta(minutes=1))
    served.epochs.record(3, "b", history[5].timestamp + timedelta(milliseconds=1))


def test_runs_and_the_regions_state_change_while_somebody_looks(page: Page, served: Served) -> None:
    expect(page.get_by_text("No run was accepted yet.")).to_be_visible()
    accept(served, "T-1")
    row = page.get_by_role("row").filter(has_text="T-1")
    expect(row).to_contain_text("accepted")
    end(served, "T-1")
    expect(row).to_contain_text("completed")
    expect(page.locator("#live")).to_have_text("Live")
    write_role(served.role_file, "standby")
    expect(page.locator("#band")).to_contain_text("Region a is standby")


def test_what_somebody_reads_or_fills_in_stays_while_the_page_is_live(page: Page, served: Served) -> None:
    accept(served, "T-1")
    export = finished(scripted([[("double", 4)], [("even", 3)]]))
    served.workflows.histories["T-1"] = export.history()[:6]
    page.goto(served.path("/runs/T-1"))
    page.locator("#step-1-1 summary").focus()
    page.keyboard.press("Enter")
    page.get_by_text("Cancel…").click()
    served.workflows.histories["T-1"] = export.history()[:10]
    expect(page.locator("#step-3-1")).to_be_visible()
    assert page.locator("#step-1-1").get_attribute("open") is not None
    expect(page.get_by_role("button", name="Cancel T-1")).to_be_visible()


def test_a_run_that_ends_can_be_run_again_without_a_reload_by_hand(page: Page, served: Served) -> None:
    accept(served, "T-1")
    page.goto(served.path("/runs/T-1"))
    expect(page.get_by_text("Cancel…")).to_be_visible()
    end(served, "T-1")
    expect(page.get_by_text("Run again…")).to_be_visible()


def test_a_session_that_is_over_leads_to_the_door_and_back(page: Page, served: Served) -> None:
    page.context.clear_cookies()
    expect(page.get_by_label("Token")).to_be_visible()
    assert "next=%2Fconsole%2Fruns" in page.url


def test_a_page_that_gets_no_answer_says_that_it_may_be_old(browser: Browser, served: Served) -> None:
    context, page, _ = visit(browser)
    sign_in(page, served.path("/runs"), VIEWER)
    page.route("**/console/runs", lambda route: route.abort())
    expect(page.locator("#live")).to_have_text("No answer: what you see may be old")
    context.close()


def test_a_page_that_could_not_be_shown_comes_when_it_can(browser: Browser, served: Served) -> None:
    context, page, _ = visit(browser)
    sign_in(page, served.path("/runs"), VIEWER)
    served.database.execute("alter table holdfast.epochs rename to away")
    try:
        page.goto(served.path("/regions"))
        expect(page.get_by_role("heading", name="Internal Server Error")).to_be_visible()
    finally:
        served.database.execute("alter table holdfast.away rename to epochs")
    expect(page.get_by_text("Activations and sweeps")).to_be_visible()
    context.close()


def test_a_link_from_elsewhere_asks_for_no_token_where_there_is_a_session(page: Page, served: Served) -> None:
    page.goto(served.path("/login?next=%2Fconsole%2Faudit"))
    expect(page.get_by_role("heading", name="Audit")).to_be_visible()
    there = f"<a href={served.path('/audit')}>go</a>"
    page.route("https://elsewhere.example/", lambda route: route.fulfill(body=there, content_type="text/html"))
    page.goto("https://elsewhere.example/")
    page.get_by_text("go").click()
    expect(page.get_by_role("heading", name="Audit")).to_be_visible()


def test_a_hostile_value_does_nothing(page: Page, served: Served) -> None:
    accept(served, "T-1")
    end(served, "T-1")
    page.goto(served.path("/runs/T-1"))
    expect(page.locator("#output pre")).to_contain_text("<script>document.title='owned'</script>")
    assert page.title() == "T-1 · Holdfast a"
    page.goto(f"{served.path('/runs')}?id={HOSTILE}")
    assert page.title() == "Runs · Holdfast a"


def test_an_operator_needs_no_mouse(page: Page, served: Served) -> None:
    accept(served, "T-1", "U-1")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Run", exact=True)).to_be_focused()
    page.keyboard.type("T-")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="U-1")).to_have_count(0)
    link = page.get_by_role("link", name="T-1")
    link.focus()
    page.keyboard.press("Enter")
    cancel = page.get_by_text("Cancel…")
    cancel.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Cancel T-1")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Run T-1 was cancelled.")).to_be_visible()
    assert served.workflows.states["T-1"].status == "terminated"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_read_and_named(browser: Browser, served: Served, scheme: str) -> None:
    accept(served, "T-1", "T-2", "T-3")
    end(served, "T-1")
    served.index.close_run("T-2", "failed", "ValueError: wrong")
    served.agent.status["stuck"] = ["T-3"]
    context, page, wrong = visit(browser, scheme)  # type: ignore[arg-type]
    page.goto(served.path("/login"))
    poor: dict[str, object] = {"login": page.evaluate(CONTRAST)}
    sign_in(page, served.path("/runs"), OPERATOR)
    try:
        for rest in ("/runs", "/runs/T-1", "/runs/T-3", "/runs/T-1/steps/2/1", "/regions", "/audit", "/nowhere"):
            page.goto(served.path(rest))
            for one in page.locator("summary").all():
                one.click()
            poor[rest], poor[f"{rest} unnamed"] = page.evaluate(CONTRAST), page.evaluate(UNNAMED)
            assert page.locator("main").count() == 1
            assert page.locator("h1").count() == 1
    finally:
        served.agent.status["stuck"] = []
    assert {where: what for where, what in poor.items() if what} == {}
    assert [one for one in wrong if "404" not in one] == []
    context.close()


def test_no_question_makes_the_database_fail(served: Served) -> None:
    nul = base64.urlsafe_b64encode(b"2026-01-01T00:00:00+00:00 a\x00b").decode()
    with httpx.Client(base_url=served.url, verify=False) as client:  # noqa: S501
        client.post("/console/login", data={"who": "Ada", "token": VIEWER})
        for query, status in {
            "runs?id=%00": 422,
            "runs?agent=%00": 422,
            f"runs?cursor={nul}": 422,
            "runs?since=0001-01-01": 200,
            "runs?until=9999-12-31T23:59:59-23:59": 200,
            "runs?id=%25_%5C%27": 200,
            "audit?before=9223372036854775807": 200,
            "audit?before=9223372036854775808": 422,
        }.items():
            assert client.get(f"/console/{query}").status_code == status, query


def test_ten_thousand_runs_are_as_quick_as_a_few(page: Page, served: Served) -> None:
    with psycopg.connect(served.database.dsn, autocommit=True) as connection:
        connection.execute(ROWS, (MANY,))
        connection.execute("analyze holdfast.runs")
    took: dict[str, float] = {}
    since = (datetime.now(UTC) - timedelta(days=5)).strftime("%Y-%m-%dT%H:%M")
    for query in ("", "status=open", "status=failed", "id=run-9999", "agent=nobody", f"until={since}"):
        page.goto(f"{served.path('/runs')}?{query}")
        timing = "performance.getEntriesByType('navigation')[0]"
        page.wait_for_function(f"{timing}.loadEventEnd > 0")
        took[query] = page.evaluate(f"{timing}.loadEventEnd")
    page.goto(served.path("/runs"))
    for _ in range(3):
        page.get_by_role("link", name="Older").click()
        page.wait_for_url("**cursor=**")
    print(f"{MANY} runs: " + ", ".join(f"{query or 'all'} {ms:.0f} ms" for query, ms in took.items()))
    assert max(took.values()) < MANY_MILLISECONDS, took
