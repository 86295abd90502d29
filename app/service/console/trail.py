"""Every deed is in the audit log before it is done, and its outcome after it."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from fastapi import Request
from run_index import AuditEntry, Deed, IndexUnavailableError
from serving import Problem

from service.console.access import Session

log = logging.getLogger(__name__)


class Trail(Protocol):
    """Where deeds are recorded; `run_index.AuditLog` is one."""

    def begin(self, deed: Deed) -> int: ...
    def end(self, entry: int, outcome: str) -> None: ...
    def page(self, *, limit: int, before: int | None = None, subject: str | None = None) -> list[AuditEntry]: ...


@contextmanager
def recorded(
    request: Request, session: Session, action: str, subject: str = "", detail: str = "", *, must: bool = True
) -> Generator[None]:
    """Record what is done inside. Where that `must` be and can't, nothing is done: raises IndexUnavailableError.

    A process that dies in between leaves an entry without an outcome, which is what is known.
    """
    console = request.app.state.console
    trail: Trail = console.audit
    deed = Deed(session.who, session.role, address_of(request), console.region.config.region, action, subject, detail)
    log.info("%s", deed)
    entry: int | None = None
    try:
        entry = trail.begin(deed)
    except IndexUnavailableError:
        if must:
            raise
    outcome = "failed"
    try:
        yield
        outcome = "done"
    except Problem as problem:
        outcome = f"refused: {problem.detail}"
        raise
    except Exception as error:
        outcome = f"failed: {type(error).__name__}"
        raise
    finally:
        if entry is not None:
            try:
                trail.end(entry, outcome)
            except IndexUnavailableError as error:
                log.warning("the outcome of audit entry %s is not recorded: %s: %s", entry, outcome, error)


def address_of(request: Request) -> str:
    """Where a request came from; behind a proxy, the proxy's address."""
    return request.client.host if request.client else "unknown"
