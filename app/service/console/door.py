"""Signing in and out."""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from serving import Problem

from service.console.access import Form, Visitor, fields_of, forget, own_path, remember, session_of
from service.console.pages import render
from service.console.trail import recorded
from service.trail import address_of

log = logging.getLogger(__name__)
router = APIRouter()
LONGEST_NAME = 80


@router.get("/login")
def ask(request: Request, wanted: Annotated[str, Query(alias="next", max_length=2000)] = "") -> Response:
    """The page that asks for a token."""
    if session_of(request) is not None:
        return RedirectResponse(own_path(wanted), 303)
    return render(request, "login", wanted=own_path(wanted), refused=None)


@router.get("/session", status_code=204, response_class=Response)
def session(visitor: Visitor) -> None:
    """Whether somebody is signed in: a browser that comes from another site sends no cookie with its first request."""


@router.post("/login")
async def enter(request: Request) -> Response:
    """Open a session for the role whose token this is."""
    console, fields = request.app.state.console, await fields_of(request)
    wanted, who = own_path(fields.get("next", "")), " ".join(fields.get("who", "").split())
    if (wait := console.sessions.may_try(address_of(request))) > 0:
        seconds = str(int(wait) + 1)
        detail = f"too many tries; try again in {seconds} s"
        raise Problem(429, "too many requests", detail, headers={"Retry-After": seconds})
    if not who or len(who) > LONGEST_NAME or not who.isprintable():
        refused = "Say who you are: your name is in the audit log."
        return render(request, "login", 422, wanted=wanted, refused=refused)
    opened = console.sessions.sign_in(fields.get("token", "").strip(), who)
    if opened is None:
        log.warning("%s from %s gave a wrong token", ascii(who), address_of(request))
        return render(request, "login", 401, wanted=wanted, refused="That is nobody's token.")
    name, session = opened
    # In a standby nothing can be recorded, and nothing can be done.
    with recorded(request, session, "sign in", must=False):
        response = RedirectResponse(wanted, 303)
    remember(response, console.region.config.region, name, console.sessions)
    return response


@router.post("/logout")
def leave(request: Request, session: Visitor, form: Form) -> Response:
    """End the session."""
    console, response = request.app.state.console, RedirectResponse("/console/login", 303)
    with recorded(request, session, "sign out", must=False):
        console.sessions.sign_out_of(session)
    forget(response, console.region.config.region)
    return response
