"""Bounds and authenticates every request before any handler sees it; every error is a problem detail (RFC 9457)."""

from __future__ import annotations

import http
import logging
import time
from collections.abc import Sequence
from hmac import compare_digest

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.measuring import METRICS_PATH

log = logging.getLogger(__name__)


class Problem(Exception):
    """An error that the client is told: status, short title, what to do, and further members."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        **members: str | None,
    ) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail, self.headers, self.members = (
            status,
            title,
            detail,
            headers,
            members,
        )

    def response(self) -> JSONResponse:
        """The problem as `application/problem+json`."""
        body = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
        return JSONResponse(
            body | self.members, self.status, headers=self.headers, media_type="application/problem+json"
        )


class RateLimit:
    """A token bucket: `rate` requests a second on average, `burst` at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = float(burst), time.monotonic()

    def take(self) -> float:
        """Take a token; 0 where one was there, else the seconds until one will be."""
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0


def harden(
    app: FastAPI,
    *,
    token: str,
    max_body_bytes: int,
    public_paths: Sequence[str] = (),
    guarded_elsewhere: str | None = None,
    rate_limit: RateLimit | None = None,
    metrics_token: str | None = None,
) -> None:
    """Demand `Authorization: Bearer <token>` except on `public_paths`, and bound bodies and rate.

    What is mounted below the path `guarded_elsewhere` has guards of its own for all but the size of bodies. The
    `metrics_token` opens `/metrics` and what is below it, and nothing else.
    """
    app.add_middleware(
        _Gate,
        token=token,
        max_body_bytes=max_body_bytes,
        public_paths=frozenset(public_paths),
        guarded_elsewhere=guarded_elsewhere,
        rate_limit=rate_limit,
        metrics_token=metrics_token,
    )

    async def on_problem(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        return error.response()

    async def on_http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if isinstance(error, _BodyTooLarge):
            return error.problem.response()
        title = http.HTTPStatus(error.status_code).phrase.lower()
        return Problem(error.status_code, title, str(error.detail), headers=dict(error.headers or {})).response()

    async def on_invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5]]
        return Problem(422, "invalid request", "; ".join(problems)).response()

    async def on_failure(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return Problem(500, "internal error", "the request failed; see the log of this process").response()

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(Exception, on_failure)


class _BodyTooLarge(HTTPException):
    """Met while a body is read: FastAPI lets an HTTPException through there, and makes a 400 of any other error."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status, problem.detail)
        self.problem = problem


class _Gate:
    """ASGI middleware: token first, then rate, then size; nothing of a refused body is kept."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str,
        max_body_bytes: int,
        public_paths: frozenset[str],
        guarded_elsewhere: str | None,
        rate_limit: RateLimit | None,
        metrics_token: str | None,
    ) -> None:
        self._app, self._max, self._public, self._rate = app, max_body_bytes, public_paths, rate_limit
        self._elsewhere = guarded_elsewhere
        self._expected = f"Bearer {token}".encode()
        self._for_metrics = f"Bearer {metrics_token}".encode() if metrics_token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = self._refuse(scope["path"], Headers(scope=scope))
        if refused is not None:
            await refused.response()(scope, receive, send)
            return
        read = 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._max:
                raise _BodyTooLarge(self._too_large())
            return message

        await self._app(scope, bounded, send)

    def _refuse(self, path: str, headers: Headers) -> Problem | None:
        if path in self._public:
            return None
        if self._elsewhere is not None and _is_below(path, self._elsewhere):
            return self._too_large() if self._says_too_large(headers) else None
        given = headers.get("authorization", "").encode()
        if _is_below(path, METRICS_PATH) and self._for_metrics and compare_digest(given, self._for_metrics):
            return None
        if not compare_digest(given, self._expected):
            return Problem(
                401,
                "unauthorized",
                "send the deployment's token as 'Authorization: Bearer …'",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if self._rate is not None and (wait := self._rate.take()) > 0:
            seconds = str(int(wait) + 1)
            detail = f"more requests than allowed; try again in {seconds} s"
            return Problem(429, "too many requests", detail, headers={"Retry-After": seconds})
        return self._too_large() if self._says_too_large(headers) else None

    def _says_too_large(self, headers: Headers) -> bool:
        length = headers.get("content-length", "0")
        return length.isdecimal() and int(length) > self._max

    def _too_large(self) -> Problem:
        return Problem(
            413, "body too large", f"at most {self._max} bytes are accepted", headers={"Connection": "close"}
        )


def _is_below(path: str, parent: str) -> bool:
    return f"{path}/".startswith(f"{parent}/")
