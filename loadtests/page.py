"""`python -m loadtests.page`: milliseconds a frame of a report of 1,000 runs, scrolled, moved, zoomed and searched.

Exit codes: 0 measured, 2 not.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median

from playwright.sync_api import Page
from refund_desk import oracle
from rich.console import Console
from rich.table import Table

from tests.support.browser import chromium, find_chromium
from tests.support.histories import remembered
from tests.support.reports import of_many_runs, report_of

RUNS, FRAMES = 1000, 180
_MOTIONS = {
    "scroll": "frame => { document.getElementById('rows').scrollTop = frame * 40; }",
    "move": "frame => press(frame % 60 < 30 ? ']' : '[')",
    "zoom": "frame => press(frame % 20 < 10 ? '+' : '-')",
    "search": "frame => { search.value = `run-0${frame % 10}`; search.dispatchEvent(new Event('input')); }",
}
_FRAMES = """async ([motion, frames]) => {
    const search = document.getElementById("search");
    const press = key => document.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
    const move = eval(motion), found = [];
    let last = await new Promise(requestAnimationFrame);
    for (let frame = 0; frame < frames; frame++) {
        move(frame);
        const now = await new Promise(requestAnimationFrame);
        found.push(now - last);
        last = now;
    }
    return found;
}"""


def main() -> int:
    """Measure and print; returns the exit code."""
    console, path = Console(), find_chromium()
    if path is None:
        console.print("no Chromium: install one, or name it in $HOLDFAST_CHROMIUM", style="red")
        return 2
    oracle.decide = remembered
    with tempfile.TemporaryDirectory(prefix="holdfast-page-") as folder:
        written = report_of(of_many_runs(RUNS), Path(folder) / "report")
        table = Table("milliseconds a frame", "median", "p95", "most", title=f"{RUNS} runs, {FRAMES} frames each")
        with chromium(path) as browser:
            page = browser.new_page(viewport={"width": 1440, "height": 1000}, bypass_csp=True)
            page.goto(written.as_uri())
            opened = page.evaluate("performance.timing.domComplete - performance.timing.navigationStart")
            for name, motion in _MOTIONS.items():
                frames = sorted(_measure(page, motion))
                p95 = frames[int(0.95 * len(frames))]
                table.add_row(name, *(f"{value:.1f}" for value in (median(frames), p95, frames[-1])))
        console.print(table)
        console.print(f"{written.stat().st_size / 1024:.0f} KiB, complete {opened:.0f} ms after it was asked for")
    return 0


def _measure(page: Page, motion: str) -> list[float]:
    return page.evaluate(_FRAMES, [motion, FRAMES])


if __name__ == "__main__":
    sys.exit(main())
