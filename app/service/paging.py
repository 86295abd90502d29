"""Pages of runs are asked for by where the page before ended, so that a page costs the same wherever it is."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime

from run_index import IndexedRun
from serving import Problem


def cursor_after(page: list[IndexedRun], limit: int) -> str | None:
    """The cursor of the page after this one, or None where this was the last."""
    if len(page) < limit:
        return None
    return base64.urlsafe_b64encode(f"{page[-1].accepted_at.isoformat()} {page[-1].run_id}".encode()).decode()


def position_of(cursor: str | None) -> tuple[datetime, str] | None:
    """Where a page begins. Raises Problem where the cursor is none."""
    if cursor is None:
        return None
    try:
        at, _, run_id = base64.urlsafe_b64decode(cursor).decode().partition(" ")
        return datetime.fromisoformat(at), run_id
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise Problem(422, "invalid request", "query.cursor: use the value of `next` as it was given") from error
