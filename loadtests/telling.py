"""How every measurement tells of itself: lines while it goes on, figures, and a place in a page of documentation."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from rich.console import Console

BEGIN, END = "<!-- results -->", "<!-- end of results -->"
Say = Callable[[str], None]


def progress(console: Console) -> Say:
    """One line per thing that is begun, with the time since the start."""
    began = time.monotonic()

    def say(line: str) -> None:
        seconds = int(time.monotonic() - began)
        console.print(f"{seconds // 60:3}:{seconds % 60:02}  {line}", markup=False, highlight=False, soft_wrap=True)

    return say


def machine() -> str:
    """What it was measured on."""
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def spread(samples: Sequence[float], digits: int) -> str:
    """The median, and where there are several the least and the most."""
    if not samples:
        return ""
    middle, least, most = (f"{value:,.{digits}f}" for value in (median(samples), min(samples), max(samples)))
    return middle if len(samples) == 1 else f"{middle} ({least} to {most})"


def marked_page(text: str) -> Path:
    """An argument that names a page with a place for results. Raises ArgumentTypeError."""
    named = Path(text)
    if not named.is_file() or not os.access(named, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} is not a file that can be written: name a Markdown page that exists")
    try:
        _place_in(named.read_text(encoding="utf-8"), named)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return named


def renew(page: Path, text: str) -> None:
    """Put `text` between the page's two marks. Raises ValueError where it has none."""
    before = page.read_text(encoding="utf-8")
    place = _place_in(before, page)
    page.write_text(f"{before[: place.start]}{text}{before[place.stop :]}", encoding="utf-8")


def _place_in(text: str, page: Path) -> slice:
    """What lies between the two marks of the page's text. Raises ValueError where it has none."""
    start, stop = text.find(f"{BEGIN}\n"), text.find(END)
    if not 0 <= start < stop:
        raise ValueError(f"{page} has no place for results: put `{BEGIN}` and `{END}` on lines of their own")
    return slice(start + len(BEGIN) + 1, stop)
