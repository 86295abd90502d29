"""What somebody who signed in does, as the audit log has it."""

from __future__ import annotations

from contextlib import AbstractContextManager

from fastapi import Request

from service import trail
from service.console.access import Session
from service.trail import Actor, address_of


def recorded(
    request: Request, session: Session, action: str, subject: str = "", detail: str = "", *, must: bool = True
) -> AbstractContextManager[None]:
    """Record what is done inside, as the API does; where that `must` be and can't, nothing is done."""
    actor = Actor(session.who, session.role, address_of(request))
    return trail.recorded(request.app.state.region, actor, action, subject, detail, must=must)
