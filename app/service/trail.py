"""Every deed is in the audit log before it is done, and its outcome after it, by whichever way somebody came."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from run_index import Deed, IndexUnavailableError
from serving import Problem

from service.region import Region

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Actor:
    """Who does something, by which right, and from which address. `who` is what they call themselves."""

    who: str
    role: str
    source: str


def address_of(request: Request) -> str:
    """Where a request came from; behind a proxy, the proxy's address."""
    return request.client.host if request.client else "unknown"


def _caller(request: Request) -> Actor:
    return Actor("holder of the token", "api", address_of(request))


Caller = Annotated[Actor, Depends(_caller)]
"""Whoever has the API's token: its holders are not told apart."""


@contextmanager
def recorded(
    region: Region, actor: Actor, action: str, subject: str = "", detail: str = "", *, must: bool = True
) -> Generator[None]:
    """Record what is done inside. Where that `must` be and can't, nothing is done: raises IndexUnavailableError.

    A process that dies in between leaves an entry without an outcome, which is what is known.
    """
    deed = Deed(actor.who, actor.role, actor.source, region.config.region, action, subject, detail)
    log.info("%s", deed)
    entry: int | None = None
    try:
        entry = region.audit.begin(deed)
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
                region.audit.end(entry, outcome)
            except IndexUnavailableError as error:
                log.warning("the outcome of audit entry %s is not recorded: %s: %s", entry, outcome, error)
