"""The audit log's page."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.console.access import Visitor
from service.console.pages import render

router = APIRouter()
PAGE = 100


@router.get("/audit")
def audit(
    request: Request, visitor: Visitor, before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None
) -> Response:
    """Who did what in either region, newest first."""
    page = request.app.state.region.audit.page(limit=PAGE, before=before)
    older = page[-1].id if len(page) == PAGE else None
    return render(request, "audit", entries=page, older=older, first=before is None)
