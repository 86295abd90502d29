"""Runs Locust as a process of its own: it patches what it is imported into, and must not do that to the caller."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.traffic.desk import GIVE_UP_SECONDS
from loadtests.traffic.entries import Entry, Tail
from loadtests.traffic.shapes import customers_for

__all__ = ["BOOK", "LOG", "Load", "NotLoadedError", "OnEntries", "run_load"]

LOCUSTFILE = Path(__file__).parents[1] / "locustfile.py"
BOOK, LOG = "entries.jsonl", "locust.log"
LOOK_SECONDS = 0.5
BESIDES_SECONDS = 60.0
"""What Locust may take besides the load itself: to begin, to see runs to their end, to finish."""
FINISH_SECONDS = 10.0
_TAIL = 600

OnEntries = Callable[[float, Sequence[Entry]], None]
"""Called while a load goes on, with the seconds since it began and all entries so far."""


class NotLoadedError(Exception):
    """The load did not take place as it should: what can't be judged by it."""


@dataclass(frozen=True)
class Load:
    """One load: a shape up to `rate` starts a second, for so many `seconds`; what begins in `warm_up` is not judged.

    The warm-up comes before the seconds, at the same shape.
    """

    shape: str
    rate: float
    seconds: float
    warm_up: float

    @property
    def whole_seconds(self) -> int:
        """How long Locust is told to go on."""
        return math.ceil(self.warm_up + self.seconds)


@dataclass(frozen=True)
class Loaded:
    """What came of a load: what began after `since` is judged, until `until`. `busy`: how busy the machine was."""

    load: Load
    since: float
    until: float
    busy: float
    entries: list[Entry]

    @property
    def judged(self) -> list[Entry]:
        """The entries of what began after the warm-up, and before the end."""
        return [entry for entry in self.entries if self.since <= entry.at < self.until]


def run_load(load: Load, folder: Path, stack: str, state: Path, on_entries: OnEntries) -> Loaded:
    """Run a load to its end, the last run's included. Raises NotLoadedError; an interrupt ends Locust first."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
    command += ["--exit-code-on-error", "0", "--shape", load.shape, "-u", str(customers_for(load.rate))]
    command += ["--run-time", f"{load.whole_seconds}s", "--book", str(folder / BOOK), "--owner", str(os.getpid())]
    environment = os.environ | {"HOLDFAST_STATE": str(state), "HOLDFAST_STACK": stack}
    tail = Tail(folder / BOOK)
    deadline = time.monotonic() + load.whole_seconds + GIVE_UP_SECONDS + BESIDES_SECONDS
    with (folder / LOG).open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        began = time.monotonic()
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    raise NotLoadedError(f"Locust had not ended {deadline - began:.0f} s after it was started")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK_SECONDS)
                on_entries(time.monotonic() - began, tail.read())
        finally:
            _end(process)
    if process.returncode:
        last = (folder / LOG).read_text(encoding="utf-8", errors="replace").strip()[-_TAIL:]
        raise NotLoadedError(f"Locust ended with code {process.returncode}: {last}")
    entries = tail.read()
    looked = [entry.at for entry in entries if entry.name == "list"]
    if not looked:
        raise NotLoadedError(f"nobody did anything: see {folder / LOG}")
    # The clerk looks as soon as the load has begun.
    first = min(looked)
    return Loaded(
        load, first + load.warm_up, first + load.warm_up + load.seconds, os.getloadavg()[0], sorted_entries(entries)
    )


def sorted_entries(entries: Sequence[Entry]) -> list[Entry]:
    """By the moment at which each began."""
    return sorted(entries, key=lambda entry: entry.at)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of Locust goes on."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(FINISH_SECONDS)
    if process.poll() is None:
        process.kill()
        process.wait()
