"""The list of runs: of both regions, as the index that they share has them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response
from run_index import IndexedRun
from serving import Problem

from service.answers import KnownStatus
from service.console.access import Visitor
from service.console.pages import render
from service.console.timeline import places
from service.paging import cursor_after, position_of

router = APIRouter()
PAGE = 100
FILTERS = ("id", "status", "agent", "since", "until")
STATUSES: tuple[str, ...] = get_args(KnownStatus)


@dataclass(frozen=True)
class Shown:
    """A run in the list, and the regions that were active in its time."""

    run: IndexedRun
    regions: list[str]


@router.get("/runs")
def runs(request: Request, visitor: Visitor) -> Response:
    """A page of runs, newest first, with the filters of the API."""
    console = request.app.state.console
    asked = {name: request.query_params.get(name, "").strip()[:200] for name in FILTERS}
    cursor, now = request.query_params.get("cursor"), datetime.now(UTC)
    problem: str | None = None
    page: list[IndexedRun] = []
    try:
        if asked["status"] and asked["status"] not in STATUSES:
            raise Problem(422, "invalid request", f"there is no status {asked['status']}")
        page = console.region.index.page(
            limit=PAGE,
            before=position_of(cursor),
            status=asked["status"] or None,
            agent=asked["agent"] or None,
            id_contains=asked["id"] or None,
            since=_time(asked["since"]),
            until=_time(asked["until"]),
        )
    except Problem as refused:
        problem = refused.detail
    epochs, after = console.epochs.all(), cursor_after(page, PAGE)
    chosen = {name: value for name, value in asked.items() if value}
    return render(
        request,
        "runs",
        422 if problem else 200,
        shown=[Shown(one, places(epochs, one.accepted_at, one.closed_at or now)) for one in page],
        asked=asked,
        chosen=chosen,
        statuses=STATUSES,
        problem=problem,
        first=cursor is None,
        here=urlencode(chosen),
        older=urlencode(chosen | {"cursor": after}) if after else None,
    )


def _time(text: str) -> datetime | None:
    """A time as a form's field has it, UTC. Raises Problem."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise Problem(422, "invalid request", f"{text} is no time; write it like 2026-01-31T09:30, in UTC") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)
