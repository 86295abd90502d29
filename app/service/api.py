"""A region's HTTP API: start, follow and cancel agent runs. The standby names the active region instead."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import StreamingResponse
from opentelemetry.trace import NoOpTracer
from pydantic import AwareDatetime, BaseModel, ConfigDict, JsonValue, ValidationError
from pydantic_ai_dapr import HistoryEvent, RunInput, WorkflowUnavailableError
from pydantic_ai_dapr.tracing import carried
from run_index import IndexUnavailableError
from serving import Problem, harden, measure, process_registry
from serving.hardening import RateLimit
from serving.tracing import request_span

from service import actions, approvals, histories
from service.answers import KnownStatus, Run, Runs
from service.console import Console, build_console
from service.histories import found
from service.hosting import HostedAgent
from service.paging import cursor_after, position_of
from service.region import ActiveRegion, InstanceId, Region, RunId, failures_are_problems
from service.trail import Caller, recorded

FOLLOW_EVERY_SECONDS = 0.25
PUBLIC_PATHS = ("/healthz",)


class StartRequest(BaseModel):
    """A start. The id is the client's: the same id with the same input starts nothing twice."""

    model_config = ConfigDict(extra="forbid")

    run_id: RunId
    input: dict[str, JsonValue]


class RoleAnswer(BaseModel):
    """Who this region is, and where the active one is."""

    region: str
    role: Literal["active", "activating", "standby", "unknown"]
    epoch: int | None
    active_url: str | None


def build_app(region: Region, token: str, console: Console | None = None, metrics_token: str | None = None) -> FastAPI:
    """The API over a region, for callers who hold `token`; with the console, for people who sign in.

    `metrics_token` opens `/metrics` alone.
    """
    config = region.config
    app = FastAPI(
        title="Holdfast",
        version=version("holdfast"),
        description="Durable agent runs in one region.",
        docs_url=None,
    )
    harden(
        app,
        token=token,
        max_body_bytes=config.max_body_bytes,
        public_paths=PUBLIC_PATHS,
        guarded_elsewhere="/console" if console else None,
        rate_limit=RateLimit(config.rate_per_second, config.rate_burst),
        metrics_token=metrics_token,
    )
    measure(app, process_registry())

    app.state.region = region
    app.state.tracer = NoOpTracer()

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    def readyz() -> dict[str, str]:
        role = region.role()
        if role is None:
            raise Problem(503, "not ready", "the region agent has not said which role this region has")
        if role.role != "standby" and not region.index.is_writable():
            raise Problem(503, "not ready", "the database does not accept writes")
        return {"status": "ready", "role": role.role}

    @app.get("/v1/role")
    def role() -> RoleAnswer:
        found = region.role()
        if found is None:
            return RoleAnswer(region=config.region, role="unknown", epoch=None, active_url=None)
        peer = next(iter(config.peers.values()), None)
        url = peer if found.role == "standby" else f"https://{config.listen}"
        return RoleAnswer(region=config.region, role=found.role, epoch=found.epoch, active_url=url)

    @app.post("/v1/runs", status_code=202, responses={200: {"model": Run}, 409: {}, 503: {}})
    def start(request: StartRequest, where: ActiveRegion, came: Request, response: Response) -> Run:
        with request_span(app.state.tracer, "POST /v1/runs", came.headers, run_id=request.run_id):
            run_input = _run_input(where.hosted, request)
            with failures_are_problems():
                given = run_input.model_dump(mode="json")
                accepted = where.index.accept(request.run_id, given, agent=where.hosted.name)
            if accepted.outcome == "conflict":
                raise Problem(409, "conflict", f"run {request.run_id} exists with another input; choose another id")
            response.headers["Location"] = f"/v1/runs/{request.run_id}"
            if accepted.outcome == "existing":
                response.status_code = 200
            else:
                where.schedule(accepted.run)
            return Run.accepted(accepted.run)

    @app.get("/v1/runs")
    def runs(
        where: ActiveRegion,
        status: KnownStatus | None = None,
        agent: Annotated[str | None, Query(max_length=200)] = None,
        since: AwareDatetime | None = None,
        until: AwareDatetime | None = None,
        id_contains: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str | None, Query(max_length=300)] = None,
    ) -> Runs:
        with failures_are_problems():
            page = where.index.page(
                status=status,
                agent=agent,
                since=since,
                until=until,
                id_contains=id_contains,
                limit=limit,
                before=position_of(cursor),
            )
        return Runs(runs=[Run.accepted(run) for run in page], next=cursor_after(page, limit))

    @app.get("/v1/runs/{run_id}")
    def run(run_id: InstanceId, where: ActiveRegion) -> Run:
        with failures_are_problems():
            return Run.of(*found(where, run_id))

    @app.post("/v1/runs/{run_id}/cancel")
    def cancel(run_id: InstanceId, where: ActiveRegion, caller: Caller) -> Run:
        with failures_are_problems(), recorded(where, caller, "cancel", run_id):
            return actions.cancel(where, run_id)

    @app.get("/v1/runs/{run_id}/events", response_class=StreamingResponse)
    def events(run_id: InstanceId, where: ActiveRegion) -> StreamingResponse:
        with failures_are_problems():
            where.known(run_id)
        return StreamingResponse(
            _follow(where, run_id), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    app.include_router(histories.router)
    app.include_router(approvals.router)
    if console is not None:
        app.mount("/console", build_console(console))
    return app


def _run_input(hosted: HostedAgent, request: StartRequest) -> RunInput:
    try:
        value = hosted.input_type.model_validate(request.input)
    except ValidationError as error:
        problems = [f"input.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5]]
        raise Problem(422, "invalid input", "; ".join(problems)) from error
    return RunInput(
        run_id=request.run_id,
        prompt=hosted.prompt(value),
        deps=hosted.deps(value).model_dump(mode="json"),
        trace=carried(),
    )


async def _follow(region: Region, run_id: str) -> AsyncIterator[str]:
    """Each history event once, as it appears, and the final state as the event `end`."""
    sent = 0
    while True:
        try:
            status = await asyncio.to_thread(region.sidecars.ask, lambda client: client.status(run_id))
            if status is None:
                run, history = await asyncio.to_thread(region.known, run_id), list[HistoryEvent]()
            else:
                run, history = None, await asyncio.to_thread(region.sidecars.ask, lambda client: client.history(run_id))
        except (WorkflowUnavailableError, IndexUnavailableError) as error:
            yield _event("unavailable", {"detail": str(error)})
            return
        for event in history[sent:]:
            yield _event("step", event.model_dump(mode="json"))
        sent = max(sent, len(history))
        if status is not None and status.is_terminal:
            yield _event("end", {"run_id": run_id, "status": status.status, "output": status.output})
            return
        if run is not None and run.closed_at is not None:
            # It was cancelled before it had a workflow, and never gets one.
            yield _event("end", {"run_id": run_id, "status": run.status, "output": None})
            return
        await asyncio.sleep(FOLLOW_EVERY_SECONDS)


def _event(name: str, data: dict[str, JsonValue]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
