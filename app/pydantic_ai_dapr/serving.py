"""An agent over HTTP: `POST /agent/run` starts a run, `GET /agent/run/{id}` follows it."""

from __future__ import annotations

import hmac
import logging
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from pydantic_ai_dapr.types import RunExistsError, RunStatus, WorkflowUnavailableError

if TYPE_CHECKING:
    from pydantic_ai_dapr.runner import DaprWorkflowAgentRunner

log = logging.getLogger(__name__)
MAX_PROMPT = 1_000_000
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


class Task(BaseModel):
    """What an agent is asked to do. Starting a run whose `workflow_id` exists is refused with 409."""

    model_config = ConfigDict(extra="forbid")

    task: str = Field(max_length=MAX_PROMPT)
    session_id: Id | None = None
    workflow_id: Id | None = None


class Decision(BaseModel):
    """A decision about a tool call that waits for approval."""

    model_config = ConfigDict(extra="forbid")

    approved: bool
    message: str | None = Field(default=None, max_length=10_000)


def http_api(runner: DaprWorkflowAgentRunner[Any, Any], token: str | None) -> FastAPI:
    """The API of one agent. With a token, every request must carry `Authorization: Bearer <token>`."""

    def authorized(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if token and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "the request needs Authorization: Bearer <token>", {"WWW-Authenticate": "Bearer"})

    app = FastAPI(title=f"{runner.name}: durable runs", dependencies=[Depends(authorized)])

    def known(workflow_id: Id) -> RunStatus:
        try:
            status = runner.status(workflow_id)
        except WorkflowUnavailableError as error:
            raise HTTPException(503, str(error)) from error
        if status is None:
            raise HTTPException(404, f"there is no run {workflow_id}")
        return status

    @app.post("/agent/run", status_code=202)
    def start(task: Task) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        try:
            handle = runner.schedule(task.task, conversation_id=task.session_id, run_id=task.workflow_id)
        except RunExistsError as error:
            raise HTTPException(409, str(error)) from error
        except WorkflowUnavailableError as error:
            raise HTTPException(503, f"whether the run has started is unknown: {error}") from error
        return {"workflow_id": handle.run_id, "status_url": f"/agent/run/{handle.run_id}"}

    @app.get("/agent/run/{workflow_id}")
    def follow(workflow_id: Id) -> RunStatus:  # pyright: ignore[reportUnusedFunction]
        return known(workflow_id)

    @app.delete("/agent/run/{workflow_id}", status_code=202)
    def end(workflow_id: Id) -> None:  # pyright: ignore[reportUnusedFunction]
        runner.client.terminate(known(workflow_id).run_id)

    @app.post("/agent/run/{workflow_id}/approvals/{tool_call_id}", status_code=202)
    def decide(workflow_id: Id, tool_call_id: Id, decision: Decision) -> None:  # pyright: ignore[reportUnusedFunction]
        run_id = known(workflow_id).run_id
        runner.client.approve(run_id, tool_call_id, approved=decision.approved, message=decision.message)

    return app


def check_exposure(host: str, token: str | None, certificate: str | None) -> None:
    """Raises ValueError where others could reach the API unasked or unencrypted."""
    if host not in LOOPBACK and not (token and certificate):
        raise ValueError(
            f"serving on {host} needs token=… and ssl_certfile=… with ssl_keyfile=…; without them serve on 127.0.0.1"
        )
