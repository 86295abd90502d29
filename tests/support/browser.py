"""A real browser: Debian's Chromium, driven by Playwright, which talks to nobody but the console."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
SIZE = {"width": 1360, "height": 850}


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; skips where there is none."""
    found = shutil.which("chromium") or os.environ.get("CHROMIUM")
    if found is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        yield browser
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
