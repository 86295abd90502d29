"""Templates, and how times, durations, sizes and values are written in them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, cast

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import JsonValue

from service.console.access import session_of

STATIC = files("service.console").joinpath("static")
SHOWN_CHARACTERS = 4000
"""Of a value in the list of a run's steps; the step's own page has the whole."""
REPEATED = ("ctx", "deps", "parameters", "settings")
"""Of an operation's input: what is the same at each, or the library's own. The step's own page has it."""


def ago(at: datetime, now: datetime) -> str:
    """How long ago, in one unit."""
    return f"{duration((now - at).total_seconds())} ago"


def duration(seconds: float) -> str:
    """A time span with about two digits."""
    if seconds < 0.0995:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    for limit, unit, size in ((59.95, "s", 1), (3600, "min", 60), (86400, "h", 3600)):
        if seconds < limit:
            amount = seconds / size
            return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def count(number: int | None) -> str:
    """A number with narrow gaps between thousands."""
    return "–" if number is None else f"{number:,}".replace(",", "\u202f")


def size(number: int | str | None) -> str:
    """An amount of bytes."""
    if not isinstance(number, int):
        return "unknown" if number else "–"
    for unit, below in (("B", 1024), ("KiB", 1024**2), ("MiB", 1024**3)):
        if number < below:
            return f"{number / (below / 1024):.0f} {unit}" if unit == "B" else f"{number / (below / 1024):.1f} {unit}"
    return f"{number / 1024**3:.1f} GiB"


def pretty(value: JsonValue) -> str:
    """A value as readable JSON; a text as it is."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def cut(text: str) -> str:
    """The beginning of a text."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def told(value: JsonValue) -> JsonValue:
    """An operation's input without what is repeated at each."""
    return {name: one for name, one in value.items() if name not in REPEATED} if isinstance(value, dict) else value


def filled(value: JsonValue) -> JsonValue:
    """A run's input or output without fields that have nothing in them."""
    if not isinstance(value, dict):
        return value
    return {name: one for name, one in value.items() if one not in (None, "", [], {})}


def clock(at: datetime) -> str:
    """A time of the day, UTC."""
    return at.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]


def stamp(at: datetime) -> str:
    """A date and time, UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("service.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = cast("dict[str, Any]", made.filters)  # pyright: ignore[reportUnknownMemberType]
    filters.update({one.__name__: one for one in (ago, duration, count, size, pretty, cut, told, filled, clock, stamp)})
    return made


_TEMPLATES = _templates()


def render(request: Request, name: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page, with what every page shows: who is here, and the regions."""
    console = request.app.state.console
    session = session_of(request)
    notes = list(session.notes) if session else []
    if session:
        session.notes.clear()
    everywhere = {
        "session": session,
        "notes": notes,
        "now": datetime.now(UTC),
        "region": console.region.config.region,
        "role": console.region.role(),
        "peers": console.region.config.peers,
        "sight": console.neighbour.look() if session else None,
        "path": request.url.path,
        "mask": console.masks,
    }
    return HTMLResponse(_TEMPLATES.get_template(f"{name}.html.jinja").render(everywhere | context), status)
