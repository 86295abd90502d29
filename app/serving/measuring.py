"""What a process counts of itself and of its requests, in Prometheus's text format."""

from __future__ import annotations

import time

from fastapi import FastAPI, Response
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METRICS_PATH = "/metrics"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
disable_created_metrics()  # a third of all series, which nobody reads
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


def process_registry() -> CollectorRegistry:
    """A registry that tells the process's own processor time, memory and open files."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


def measure(app: FastAPI, registry: CollectorRegistry) -> None:
    """Count every request of `app`, refused ones too, and tell what `registry` holds at `/metrics`.

    To be called after `harden`, which guards the path.
    """
    app.add_middleware(
        _Measured,
        requests=Counter(
            "holdfast_http_requests", "Requests by answer", ["method", "route", "status"], registry=registry
        ),
        seconds=Histogram(
            "holdfast_http_request_seconds", "Until the answer's end", ["method", "route"], registry=registry
        ),
    )

    @app.get(METRICS_PATH, include_in_schema=False)
    def metrics() -> Response:  # pyright: ignore[reportUnusedFunction]
        return Response(generate_latest(registry), media_type=TEXT)


class _Measured:
    """ASGI middleware around everything else. Its labels are of the app's making, never of a caller's."""

    def __init__(self, app: ASGIApp, *, requests: Counter, seconds: Histogram) -> None:
        self._app, self._requests, self._seconds = app, requests, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began = 500, time.perf_counter()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            # A refused request has met no route; below a mount the route is relative to it.
            path = getattr(scope.get("route"), "path", None)
            route = "none" if path is None else f"{scope.get('root_path', '')}{path}"
            self._requests.labels(method, route, str(status)).inc()
            self._seconds.labels(method, route).observe(time.perf_counter() - began)
