"""Who may see the console, and who may act: sessions, roles, and what every form must prove.

A session lives in this process, for a bounded time; the browser has a random name of it in a cookie that no script
can read, and that no other site can send.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from typing import Annotated, Literal
from urllib.parse import parse_qsl, quote, urlsplit

from fastapi import Depends, Request
from fastapi.responses import RedirectResponse, Response
from serving import Problem
from serving.hardening import RateLimit

Role = Literal["viewer", "operator"]
SHORTEST_TOKEN = 16
MOST_SESSIONS, MOST_ADDRESSES, MOST_FIELDS = 1000, 4096, 50
TRIES, SECONDS_FOR_A_TRY = 5, 10.0
"""How often an address may try to sign in at once, and how long it waits for another try."""
REQUESTS_PER_SECOND, REQUESTS_AT_ONCE = 20.0, 100
"""Of one session."""


class NotSignedIn(Exception):
    """There is no session, or it is over."""


@dataclass(frozen=True)
class Note:
    """What became of what somebody did."""

    kind: Literal["done", "refused"]
    text: str


@dataclass
class Session:
    """Somebody who signed in. `who` is what they call themselves: the token proves the role alone.

    `csrf` must come with every form; `notes` are shown on the next page.
    """

    who: str
    role: Role
    csrf: str
    begun: float
    seen: float
    notes: list[Note] = field(default_factory=list["Note"])
    rate: RateLimit = field(default_factory=lambda: RateLimit(REQUESTS_PER_SECOND, REQUESTS_AT_ONCE))

    @property
    def is_operator(self) -> bool:
        return self.role == "operator"


class Sessions:
    """Opens and finds sessions. Tokens and names are compared by their digests, in constant time."""

    def __init__(
        self,
        tokens: Mapping[Role, str],
        *,
        lifetime: float,
        idle: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for role, token in tokens.items():
            if len(token) < SHORTEST_TOKEN:
                raise ValueError(f"the console's {role} token has {len(token)} characters; give it {SHORTEST_TOKEN}")
        if len(set(tokens.values())) < len(tokens):
            raise ValueError("the console's tokens must differ: each stands for one role")
        self._tokens: dict[Role, bytes] = {role: sha256(token.encode()).digest() for role, token in tokens.items()}
        self.lifetime, self._idle, self._clock = lifetime, idle, clock
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._tries: OrderedDict[str, RateLimit] = OrderedDict()

    def may_try(self, address: str) -> float:
        """0 where the address may try to sign in now, else in how many seconds."""
        bucket = self._tries.pop(address, None) or RateLimit(1 / SECONDS_FOR_A_TRY, TRIES)
        self._tries[address] = bucket
        while len(self._tries) > MOST_ADDRESSES:
            self._tries.popitem(last=False)
        return bucket.take()

    def sign_in(self, token: str, who: str) -> tuple[str, Session] | None:
        """A new session and its name, or None where the token is nobody's."""
        given = sha256(token.encode()).digest()
        matching: list[Role] = [role for role, one in self._tokens.items() if compare_digest(given, one)]
        role = next(iter(matching), None)
        if role is None:
            return None
        name, now = secrets.token_urlsafe(32), self._clock()
        session = Session(who, role, secrets.token_urlsafe(32), now, now)
        self._sessions[_digest(name)] = session
        while len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return name, session

    def find(self, name: str) -> Session | None:
        """The session of that name, where it is not over."""
        session, now = self._sessions.get(_digest(name)), self._clock()
        if session is None:
            return None
        if now - session.begun > self.lifetime or now - session.seen > self._idle:
            self.sign_out(name)
            return None
        session.seen = now
        return session

    def sign_out(self, name: str) -> None:
        """End the session of that name."""
        self._sessions.pop(_digest(name), None)

    def sign_out_of(self, session: Session) -> None:
        """End a session."""
        for digest in [one for one, known in self._sessions.items() if known is session]:
            del self._sessions[digest]


def _digest(name: str) -> bytes:
    return sha256(name.encode()).digest()


def cookie_of(region: str) -> str:
    """The cookie's name: browsers give cookies to every port of a host, where the other region may listen."""
    return f"__Host-holdfast-{region}"


def remember(response: Response, region: str, name: str, sessions: Sessions) -> None:
    """Give the browser its session."""
    response.set_cookie(
        cookie_of(region), name, max_age=int(sessions.lifetime), secure=True, httponly=True, samesite="strict"
    )


def forget(response: Response, region: str) -> None:
    """Take the session from the browser."""
    response.delete_cookie(cookie_of(region), secure=True, httponly=True, samesite="strict")


def session_of(request: Request) -> Session | None:
    """The request's session, where it has one."""
    console = request.app.state.console
    return console.sessions.find(request.cookies.get(cookie_of(console.region.config.region), ""))


def _visitor(request: Request) -> Session:
    session = session_of(request)
    if session is None:
        raise NotSignedIn
    if (wait := session.rate.take()) > 0:
        seconds = str(int(wait) + 1)
        raise Problem(429, "too many requests", f"try again in {seconds} s", headers={"Retry-After": seconds})
    return session


Visitor = Annotated[Session, Depends(_visitor)]
"""Somebody who signed in."""


def demand_operator(session: Session) -> None:
    """Raises Problem where the session is a viewer's."""
    if not session.is_operator:
        raise Problem(403, "forbidden", "viewers look and change nothing; sign in with the operator's token")


async def fields_of(request: Request) -> dict[str, str]:
    """A form's fields. Raises Problem where another site sent it, or where it is no form."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site not in (None, "same-origin") or (origin and urlsplit(origin).netloc != request.headers.get("host")):
        raise Problem(403, "forbidden", "the form was sent by another site")
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise Problem(415, "unsupported media type", "send the form as the page has it")
    try:
        return dict(parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError as error:
        raise Problem(400, "bad request", "the form can't be read") from error


async def _form(request: Request, session: Visitor) -> dict[str, str]:
    fields = await fields_of(request)
    if not compare_digest(fields.pop("csrf", "").encode(), session.csrf.encode()):
        raise Problem(403, "forbidden", "the form is not of this session; go back, reload the page and try again")
    return fields


Form = Annotated[dict[str, str], Depends(_form)]
"""The fields of a form of this session's own pages."""


async def _operator_form(form: Form, session: Visitor) -> dict[str, str]:
    demand_operator(session)
    return form


OperatorForm = Annotated[dict[str, str], Depends(_operator_form)]
"""The same, where only an operator may send it."""


def to_sign_in(request: Request) -> RedirectResponse:
    """To the page that asks who is there, and from there to where they wanted to go."""
    query = f"?{request.url.query}" if request.url.query else ""
    wanted = f"{request.url.path}{query}" if request.method == "GET" else "/console/runs"
    return RedirectResponse(f"/console/login?next={quote(wanted, safe='')}", 303)


def own_path(wanted: str) -> str:
    """The page to go to after signing in: one of the console's own, whatever was asked for."""
    plain = wanted.isascii() and wanted.isprintable() and "\\" not in wanted
    return (
        wanted
        if plain and wanted.startswith("/console/") and not wanted.startswith("/console/log")
        else "/console/runs"
    )
