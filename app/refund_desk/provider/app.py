"""The HTTP interface of the simulated providers, and of the bench that says how they behave."""

from __future__ import annotations

import asyncio
import json

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from serving import CutResponse, Problem, harden, measure, mounted, process_registry
from starlette.types import ASGIApp

from refund_desk.provider import ProviderName
from refund_desk.provider.completions import Request, completion
from refund_desk.provider.conditions import OVERSIZE, Condition, Conditions, Provider

MAX_BODY_BYTES = 32_000_000
"""A conversation is sent whole with each request, answers of `OVERSIZE` included."""


def build_app(
    conditions: Conditions,
    token: str,
    control_token: str,
    latency_seconds: float = 0.0,
    metrics_token: str | None = None,
) -> ASGIApp:
    """The providers for callers who hold `token`, and `/control` for those who hold `control_token`.

    Each request takes `latency_seconds`, as a real one would take time. `metrics_token` opens `/metrics` alone.
    """
    app = FastAPI(title="Simulated model providers", version="1", docs_url=None, redoc_url=None)
    harden(app, token=token, max_body_bytes=MAX_BODY_BYTES, public_paths=("/healthz",), metrics_token=metrics_token)
    measure(app, process_registry())

    @app.get("/healthz")
    def healthz() -> dict[str, str]:  # pyright: ignore[reportUnusedFunction]
        return {"status": "ok"}

    @app.post("/{provider}/v1/chat/completions")
    async def complete(provider: ProviderName, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        condition = conditions.next(provider)
        trouble, seconds = (condition.trouble, condition.seconds) if condition else (None, 0.0)
        if trouble == "refusing":
            raise Problem(429, "too many requests", "slow down", headers={"Retry-After": f"{seconds:g}"})
        if trouble == "failing":
            raise Problem(503, "overloaded", "the model is overloaded")
        await asyncio.sleep(latency_seconds + seconds)
        if trouble == "hanging":
            return CutResponse(b"", sent=0)
        try:
            padding = OVERSIZE if trouble == "oversized" else 0
            body = json.dumps(completion(request, malformed=trouble == "malformed", padding=padding)).encode()
        except ValueError as error:
            raise Problem(422, "invalid request", str(error)[:500]) from error
        if trouble == "cut":
            return CutResponse(body, sent=len(body) // 2)
        return Response(body[: len(body) // 2] if trouble == "garbled" else body, media_type="application/json")

    control = FastAPI(title="Control", version="1", docs_url=None, redoc_url=None)
    harden(control, token=control_token, max_body_bytes=1000)

    @control.get("/")
    def look() -> dict[ProviderName, Provider]:  # pyright: ignore[reportUnusedFunction]
        return conditions.seen()

    @control.put("/{provider}")
    def put(provider: ProviderName, condition: Condition) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        conditions.set(provider, condition)
        return JSONResponse(condition.model_dump())

    @control.delete("/{provider}", status_code=204)
    def lift(provider: ProviderName) -> None:  # pyright: ignore[reportUnusedFunction]
        conditions.set(provider, None)

    return mounted(app, control=control)
