"""The payments service's HTTP interface."""

from __future__ import annotations

import time
from typing import Annotated, get_args

from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import Counter
from pydantic import JsonValue
from serving import CutResponse, Problem, harden, measure, mounted, process_registry
from starlette.types import ASGIApp

from refund_desk.payments.ledger import Caller, Entry, Ledger, Outcome, Recorded
from refund_desk.payments.replies import Loss, Replies
from refund_desk.payments.rules import EffectKind

MAX_BODY_BYTES = 64_000
_Name = Header(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")


def _caller(
    idempotency_key: Annotated[str, _Name],
    holdfast_run: Annotated[str, _Name],
    holdfast_region: Annotated[str, _Name],
    holdfast_epoch: Annotated[int, Header(ge=0, le=2**53)],
    holdfast_worker: Annotated[str, _Name],
    holdfast_attempt: Annotated[int, Header(ge=1, le=1_000_000)],
) -> Caller:
    return Caller(
        key=idempotency_key,
        run_id=holdfast_run,
        region=holdfast_region,
        epoch=holdfast_epoch,
        worker=holdfast_worker,
        attempt=holdfast_attempt,
    )


def build_app(
    ledger: Ledger, token: str, control_token: str, answer_seconds: float = 0.0, metrics_token: str | None = None
) -> ASGIApp:
    """The service over `ledger`, for callers who hold `token`, and `/control` for those who hold `control_token`.

    An effect is applied at once, and answered after `answer_seconds`: in between, its caller can't know.
    `metrics_token` opens `/metrics` alone.
    """
    replies = Replies()
    app = FastAPI(title="Payments", version="1", docs_url=None, redoc_url=None)
    harden(app, token=token, max_body_bytes=MAX_BODY_BYTES, public_paths=("/healthz",), metrics_token=metrics_token)
    registry = process_registry()
    measure(app, registry)
    effects = Counter(
        "holdfast_effects", "Attempts at an effect, by what became of them", ["outcome"], registry=registry
    )
    for outcome in get_args(Outcome):
        effects.labels(outcome)  # Prometheus sees no growth in what was not there before

    @app.get("/healthz")
    def healthz() -> dict[str, str]:  # pyright: ignore[reportUnusedFunction]
        return {"status": "ok"}

    @app.get("/ledger")
    def entries(  # pyright: ignore[reportUnusedFunction]
        after: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=10_000)] = 1000
    ) -> list[Entry]:
        return ledger.entries(after, limit)

    @app.post("/{kind}", responses={409: {"description": "conflicting payload, or stale epoch"}})
    def effect(  # pyright: ignore[reportUnusedFunction]
        kind: EffectKind,
        who: Annotated[Caller, Depends(_caller)],
        payload: dict[str, JsonValue],
        request: Request,
    ) -> Response:
        try:
            recorded: Recorded = ledger.attempt(kind, who, payload)
        except ValueError as error:
            raise Problem(422, "invalid payload", str(error)[:500]) from error
        effects.labels(recorded.outcome).inc()
        if recorded.outcome == "stale":
            raise Problem(409, "stale epoch", f"epoch {who.epoch} is over; a newer one has been seen")
        if recorded.outcome == "conflict":
            raise Problem(409, "conflicting payload", f"key {who.key} was used with another effect before")
        time.sleep(answer_seconds)
        if replies.lose():
            return CutResponse(b"", sent=0)
        return JSONResponse({"outcome": recorded.outcome, "result": recorded.result})

    control = FastAPI(title="Control", version="1", docs_url=None, redoc_url=None)
    harden(control, token=control_token, max_body_bytes=1000)

    @control.get("/replies")
    def look() -> Loss:  # pyright: ignore[reportUnusedFunction]
        return replies.seen()

    @control.put("/replies")
    def put(wanted: Loss) -> Loss:  # pyright: ignore[reportUnusedFunction]
        return replies.set(wanted.to_lose)

    return mounted(app, control=control)
