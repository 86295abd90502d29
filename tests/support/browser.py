"""A real Chromium, driven by Playwright; it reaches nothing but this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SIZE = {"width": 1360, "height": 850}


def find_chromium() -> str | None:
    """The browser that $HOLDFAST_CHROMIUM names, else one on PATH."""
    named = os.environ.get("HOLDFAST_CHROMIUM")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)


def needed_chromium() -> str:
    """The same for a test, which is skipped where there is none."""
    found = find_chromium()
    if found is None:
        pytest.skip("there is no Chromium: apt-get install chromium, or name one with $HOLDFAST_CHROMIUM")
    return found


@contextmanager
def chromium(path: str) -> Generator[Browser]:
    """The browser, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def visit(browser: Browser, scheme: Literal["light", "dark"] = "light") -> tuple[BrowserContext, Page, list[str]]:
    """A fresh visitor's page, and what went wrong in it: errors of scripts, and what the page's policy refused."""
    context = browser.new_context(ignore_https_errors=True, color_scheme=scheme, viewport=SIZE)
    page, wrong = context.new_page(), list[str]()
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda told: wrong.append(told.text) if told.type in ("error", "warning") else None)
    return context, page, wrong


def sign_in(page: Page, url: str, token: str, who: str = "Ada") -> None:
    """From the console's door to where the address led."""
    page.goto(url)
    page.get_by_label("Your name").fill(who)
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()
