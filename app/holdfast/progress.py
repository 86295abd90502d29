"""Shows a change of a deployment while it runs: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from infra.engine.progress import OnProgress, Progress

__all__ = ["shown"]

_DOING = {"create": "starting", "update": "updating", "delete": "stopping", "refresh": "looking"}
_DONE = {"create": "up", "update": "up", "delete": "gone", "same": "up", "refresh": "up"}


@dataclass
class _Row:
    """What is known of one part."""

    doing: str = ""
    since: float = 0.0
    seconds: float | None = None
    message: str = ""
    outcome: str = ""


@contextmanager
def shown(console: Console) -> Generator[OnProgress, None, None]:
    """Gives a listener whose events are shown until the block ends."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    table = _LiveTable()
    with Live(table, console=console, refresh_per_second=8, transient=False):
        yield table


class _Lines:
    """One line per event that a reader of a log would want."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, event: Progress) -> None:
        line = _line(event)
        if line:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _line(event: Progress) -> str:
    name = f"{event.part or 'deployment':<9}"
    if event.status == "says":
        return f"{name} {event.message}"
    if event.status == "started":
        return f"{name} {_DOING.get(event.operation, event.operation)}"
    if event.status == "failed":
        return f"{name} failed after {event.seconds or 0:.1f} s"
    if event.operation in ("create", "update", "delete"):
        return f"{name} {_DONE[event.operation]} after {event.seconds or 0:.1f} s"
    return f"{name} found not healthy: {event.message}" if event.message else ""


class _LiveTable:
    """The parts in the order in which they were first heard of, each with what it does now."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self._note = ""

    def __call__(self, event: Progress) -> None:
        if not event.part:
            self._note = event.message
            return
        row = self._rows.setdefault(event.part, _Row())
        if event.status == "says":
            row.message = event.message
        elif event.status == "started":
            row.doing, row.since, row.outcome = _DOING.get(event.operation, ""), time.monotonic(), ""
        else:
            row.doing = ""
            row.outcome = "failed" if event.status == "failed" else _DONE.get(event.operation, "")
            row.seconds = event.seconds if event.operation in ("create", "update", "delete") else None
            row.message = event.message

    def __rich__(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for name, row in list(self._rows.items()):
            if row.doing:
                mark: RenderableType = Spinner("dots", style="cyan")
                seconds = time.monotonic() - row.since
                table.add_row(mark, name, f"{seconds:5.1f} s", Text(row.message or row.doing, style="dim"))
            else:
                mark = Text("✗", "red") if row.outcome == "failed" or row.message else Text("✓", "green")
                taken = f"{row.seconds:5.1f} s" if row.seconds is not None else ""
                table.add_row(mark, name, taken, Text(row.message or row.outcome, style="dim"))
        return Group(table, Text(self._note, style="dim")) if self._note else table
