"""The report's page in a real Chromium: it opens without an error, leads to errors, is searched; of 1,000 runs too."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from refund_desk import oracle

from chaos.history import History
from tests.support.browser import chromium, needed_chromium
from tests.support.histories import region_loss, remembered, run_id
from tests.support.reports import of_many_runs, report_of, twice_executed

pytestmark = pytest.mark.component

HOSTILE = "</script><img src=x onerror=alert(2)>"
MANY = 1000


@pytest.fixture(scope="module")
def browser(pages: dict[str, Path]) -> Generator[Browser]:
    """Started when all pages are there: its loop leaves no room for those that judging runs."""
    with chromium(needed_chromium()) as started:
        yield started


@pytest.fixture(scope="module", autouse=True)
def _the_oracle_remembers() -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oracle, "decide", remembered)
        yield


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, _the_oracle_remembers: None) -> dict[str, Path]:
    histories = {"good": region_loss(), "bad": twice_executed(), "hostile": hostile(), "many": of_many_runs(MANY)}
    histories["unread"] = region_loss()
    histories["unread"].effects = None
    folder = tmp_path_factory.mktemp("reports")
    return {name: report_of(history, folder / name) for name, history in histories.items()}


@pytest.fixture
def page(browser: Browser) -> Generator[Page]:
    """A page that must not say anything, and must not ask anybody for anything but files."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    opened.on("request", lambda request: said.append(request.url) if not request.url.startswith("file:") else None)
    opened.set_default_timeout(10_000)
    yield opened
    opened.close()
    assert said == []


def hostile() -> History:
    history = twice_executed()
    assert history.attempts is not None
    name = {"run_id": HOSTILE, "name": HOSTILE, "worker": HOSTILE}
    history.attempts = [one.model_copy(update=name) if one.run_id == run_id(2) else one for one in history.attempts]
    for records in (history.operations, history.effects or [], history.workflows or []):
        for place, one in enumerate(records):
            if one.run_id == run_id(2):
                records[place] = one.model_copy(update={"run_id": HOSTILE})  # pyright: ignore[reportArgumentType]
    return history


def visit(page: Page, path: Path, fragment: str = "") -> None:
    page.goto(path.as_uri() + fragment)


def painted(page: Page, canvas: str) -> int:
    """How many colours a canvas shows."""
    return page.evaluate(
        """async id => {
            await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
            const canvas = document.getElementById(id), box = [canvas.width, canvas.height];
            const pixels = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, ...box).data.buffer);
            return new Set(pixels).size;
        }""",
        canvas,
    )


LABELS = "#labels div:not([hidden])"
"""Drawn with the next frame: what is to come is awaited."""


def labels(page: Page) -> list[str]:
    return page.locator(LABELS).all_text_contents()


def test_a_good_report_opens_with_its_verdict_first(page: Page, pages: dict[str, Path]) -> None:
    visit(page, pages["good"])
    expect(page.locator("header .word")).to_have_text("valid")
    assert page.locator("header").bounding_box() == {
        "x": 0,
        "y": 0,
        "width": 1280,
        "height": pytest.approx(160, abs=60),
    }
    assert painted(page, "lanes") > 10
    assert painted(page, "bars") > 5
    expect(page.locator(LABELS)).to_have_text([run_id(number) for number in range(7)])
    expect(page.locator("#problem")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_differ_and_can_be_changed(browser: Browser, pages: dict[str, Path], scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)  # pyright: ignore[reportArgumentType]
    visit(page, pages["good"])
    background = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(background)
    page.keyboard.press("t")
    assert page.evaluate(background) != before
    page.keyboard.press("t")
    assert page.evaluate(background) == before
    page.close()


def test_a_key_leads_to_the_first_error_and_to_the_next(page: Page, pages: dict[str, Path]) -> None:
    visit(page, pages["bad"])
    page.keyboard.press("e")
    expect(page.locator("#problem-place")).to_have_text(re.compile("Error 1 of"))
    expect(page.locator("#problem-text")).to_contain_text("K5: run-02:1: executed by b/")
    expect(page.locator("#detail h3")).to_have_text(run_id(2))
    expect(page.locator("#detail tr[aria-current]")).to_contain_text("executed again")
    assert page.evaluate("location.hash") == f"#{run_id(2)}:1"
    page.keyboard.press("e")
    expect(page.locator("#problem-place")).to_have_text(re.compile("Error 2 of"))
    page.keyboard.press("Shift+E")
    expect(page.locator("#problem-text")).to_contain_text("K5")


def test_an_error_of_no_run_leads_to_its_witness(page: Page, pages: dict[str, Path]) -> None:
    visit(page, pages["unread"])
    page.get_by_role("button", name="Jump to the first error").click()
    assert page.evaluate("document.activeElement.id") == "K2-0"


def test_a_witness_leads_to_the_operation_that_it_names(page: Page, pages: dict[str, Path]) -> None:
    visit(page, pages["bad"])
    page.locator("#K5-0 a").click()
    expect(page.locator("#detail h3")).to_have_text(run_id(2))
    expect(page.locator("#detail tr[aria-current] td").first).to_have_text("1")


def test_an_address_opens_the_page_at_an_operation(page: Page, pages: dict[str, Path]) -> None:
    visit(page, pages["many"], "#run-0900:3")
    expect(page.locator("#detail h3")).to_have_text("run-0900")
    assert "run-0900" in labels(page)


def test_every_step_names_the_lines_of_its_record(page: Page, pages: dict[str, Path]) -> None:
    visit(page, pages["good"], f"#{run_id(0)}:1")
    link = page.locator("#detail tr[aria-current] a").first
    line = int(link.inner_text())
    recorded = (pages["good"].parent / str(link.get_attribute("href"))).read_text().splitlines()[line - 1]
    assert f'"run_id":"{run_id(0)}","ordinal":1' in recorded


def test_runs_are_searched_and_filtered(page: Page, pages: dict[str, Path]) -> None:
    visit(page, pages["bad"])
    page.keyboard.press("/")
    page.keyboard.type("run-03")
    expect(page.locator("#count")).to_have_text("1 of 7 runs")
    expect(page.locator(LABELS)).to_have_text([run_id(3)])
    page.locator("#search").fill("")
    page.locator("#filter").select_option("problem")
    expect(page.locator("#count")).to_have_text("2 of 7 runs")
    expect(page.locator(LABELS)).to_have_text([run_id(2), run_id(4)])
    page.locator("#search").fill("no such run")
    expect(page.locator("#count")).to_have_text("0 of 7 runs")
    expect(page.locator(LABELS)).to_have_text([])
    page.locator("#rows").focus()
    page.keyboard.press("e")
    expect(page.locator("#count")).to_have_text("7 runs")


def test_the_timeline_is_used_by_keys_alone(page: Page, pages: dict[str, Path]) -> None:
    visit(page, pages["good"])
    page.locator("#rows").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator('#labels div[aria-selected="true"]')).to_have_text(run_id(1))
    page.keyboard.press("ArrowRight")
    expect(page.locator("#detail tr[aria-current] td").first).to_have_text("1")
    page.keyboard.press("End")
    expect(page.locator('#labels div[aria-selected="true"]')).to_have_text(run_id(6))
    before = page.evaluate("document.getElementById('lanes').toDataURL()")
    page.keyboard.press("+")
    page.wait_for_function("before => document.getElementById('lanes').toDataURL() !== before", arg=before)
    page.keyboard.press("0")
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()


def test_a_thousand_runs_are_drawn_scrolled_zoomed_and_searched(page: Page, pages: dict[str, Path]) -> None:
    visit(page, pages["many"])
    expect(page.locator("#count")).to_have_text("1,000 runs")
    assert 20 < len(labels(page)) < 80
    assert page.locator("#labels div").count() < 80
    page.locator("#timeline").evaluate("section => section.scrollIntoView()")
    box = page.locator("#bars").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 600, box["y"] + 100)
    page.mouse.wheel(0, 8000)
    expect(page.locator("#labels div", has_text="run-0510")).to_be_visible()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    assert painted(page, "bars") > 1
    page.locator("#search").fill("run-0999")
    expect(page.locator("#count")).to_have_text("1 of 1,000 runs")
    page.locator("#labels div", has_text="run-0999").click()
    expect(page.locator("#detail h3")).to_have_text("run-0999")


def test_a_click_on_a_bar_selects_its_step(page: Page, pages: dict[str, Path]) -> None:
    visit(page, pages["good"], f"#{run_id(0)}:4")
    box = page.locator("#bars").bounding_box()
    assert box is not None
    page.keyboard.press("Escape")
    for x in range(200, int(box["width"]), 4):
        page.mouse.move(box["x"] + x, box["y"] + 8)
        if page.locator("#tip").is_visible():
            break
    expect(page.locator("#tip")).to_contain_text(f"{run_id(0)}:1 step")
    page.mouse.down()
    page.mouse.up()
    expect(page.locator("#detail tr[aria-current] td").first).to_have_text("1")


def test_hostile_texts_are_shown_as_they_are(page: Page, pages: dict[str, Path]) -> None:
    visit(page, pages["hostile"])
    page.keyboard.press("e")
    expect(page.locator("#detail h3")).to_have_text(HOSTILE)
    expect(page.locator("#detail td b").first).to_have_text(HOSTILE)
    assert page.locator("img").count() == 0


def test_a_narrow_window_needs_no_sideways_scrolling(page: Page, pages: dict[str, Path]) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    visit(page, pages["bad"])
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_in_print_every_run_is_shown_on_white(browser: Browser, pages: dict[str, Path]) -> None:
    page = browser.new_page(color_scheme="dark")
    visit(page, pages["good"])
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    expect(page.locator("#search")).to_be_hidden()
    expect(page.locator(LABELS)).to_have_count(7)
    assert len(page.pdf()) > 10_000
    page.close()
