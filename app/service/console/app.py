"""Puts the console together: its pages, its guards, and the headers with which a browser guards it too."""

from __future__ import annotations

import http
import logging
import threading
from dataclasses import dataclass, field

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic_ai_dapr import PayloadLostError, WorkflowUnavailableError
from run_index import Epochs, IndexUnavailableError, NotStorableError
from serving import Problem
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.console import audit, door, regions, run, runs
from service.console.access import NotSignedIn, Sessions, to_sign_in
from service.console.masking import Masks
from service.console.neighbour import Neighbour
from service.console.pages import STATIC, render
from service.region import Region

log = logging.getLogger(__name__)

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: a browser then hides the origin of the console's own forms as well.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True)
class Console:
    """What the console stands on."""

    region: Region
    sessions: Sessions
    epochs: Epochs
    neighbour: Neighbour
    masks: Masks
    replaying: threading.Lock = field(default_factory=threading.Lock)
    """Held while a history is replayed: one at a time."""


def build_console(console: Console) -> FastAPI:
    """The console, to be mounted at `/console`."""
    app = FastAPI(title="Console", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.console, app.state.region = console, console.region
    app.add_middleware(_Headers)
    for part in (door, runs, run, regions, audit):
        app.include_router(part.router)
    app.mount("/static", StaticFiles(directory=str(STATIC)))

    @app.get("/")
    def front() -> RedirectResponse:
        return RedirectResponse("/console/runs", 303)

    async def on_nobody(request: Request, _: Exception) -> Response:
        return to_sign_in(request)

    for failure, handler in _FAILURES.items():
        app.add_exception_handler(failure, handler)
    app.add_exception_handler(NotSignedIn, on_nobody)
    return app


def _page(request: Request, status: int, detail: str, headers: dict[str, str] | None = None) -> HTMLResponse:
    title = http.HTTPStatus(status).phrase
    back = request.url.path.rpartition("/")[0] if request.method == "POST" else "/console/runs"
    passing = request.method == "GET" and status >= 500
    response = render(request, "problem", status, title=title, detail=detail, back=back, passing=passing)
    response.headers.update(headers or {})
    return response


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _page(request, error.status, error.detail, error.headers)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _page(request, error.status_code, "There is no such page." if error.status_code == 404 else error.detail)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    told = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors()[:5])
    return _page(request, 422, told)


async def _on_unavailable(request: Request, error: Exception) -> Response:
    log.warning("unavailable: %s", error)
    return _page(request, 503, f"{error}; try again", {"Retry-After": "1"})


async def _on_unstorable(request: Request, error: Exception) -> Response:
    return _page(request, 422, str(error))


async def _on_lost(request: Request, error: Exception) -> Response:
    return _page(request, 410, str(error))


async def _on_failure(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _page(request, 500, "The request failed; the log of this process says why.")


_FAILURES = {
    Problem: _on_problem,
    HTTPException: _on_http,
    RequestValidationError: _on_invalid,
    IndexUnavailableError: _on_unavailable,
    WorkflowUnavailableError: _on_unavailable,
    NotStorableError: _on_unstorable,
    PayloadLostError: _on_lost,
    Exception: _on_failure,
}


class _Headers:
    """ASGI middleware: every answer of the console carries its headers, and no page is kept by anyone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                is_file = scope["path"].removeprefix("/console").startswith("/static/")
                headers["Cache-Control"] = "no-cache" if is_file else "no-store"
            await send(message)

        await self._app(scope, receive, with_headers)
