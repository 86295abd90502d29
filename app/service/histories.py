"""What a run did, step by step or as a file, and running it again."""

from __future__ import annotations

import logging
from typing import Annotated, Self

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_ai_dapr import ExportError, HistoryEvent, RunStatus, Step, steps
from run_index import IndexedRun
from serving import Problem

from service.answers import Run
from service.region import ActiveRegion, InstanceId, Region, failures_are_problems

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/runs/{run_id}")


class RerunRequest(BaseModel):
    """A rerun. Its id is the client's, `<first run's id>~<number>`: the same rerun under it starts nothing twice.

    Without `from_step` everything is executed again, with it that operation and what follows. Operations keep their
    idempotency keys; those of a `fresh` rerun are new, and its effects are applied again.
    """

    model_config = ConfigDict(extra="forbid")

    run_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}~[1-9][0-9]{0,5}$")]
    from_step: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    fresh: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.fresh and self.from_step is not None:
            raise ValueError("a rerun from a step keeps the answers that belong to the old keys; leave fresh out")
        return self


@router.get("/history")
def history(run_id: InstanceId, where: ActiveRegion) -> list[HistoryEvent]:
    """Every event of the run's workflow, since it began; of a rerun and of what a run asked another agent too."""
    with failures_are_problems():
        return _events(where, run_id)


@router.get("/steps")
def each_step(run_id: InstanceId, where: ActiveRegion) -> list[Step]:
    """Every attempt at every operation: input, output or error, when, and for how many seconds."""
    with failures_are_problems():
        return steps(_events(where, run_id))


@router.get("/export", response_class=Response, responses={200: {"content": {"application/json": {}}}, 409: {}})
def export(run_id: InstanceId, where: ActiveRegion) -> Response:
    """The run's whole history as a file, with its signatures: `holdfast replay` and `holdfast verify` check it."""
    with failures_are_problems():
        _, workflow = found(where, run_id)
        if workflow is None:
            raise Problem(409, "no history yet", f"run {run_id} has no workflow yet")
        try:
            content = where.sidecars.ask(lambda client: client.export(run_id, where.store)).content()
        except ExportError as error:
            raise Problem(409, "no history yet", str(error)) from error
    headers = {"Content-Disposition": f'attachment; filename="{run_id}.json"', "Cache-Control": "no-store"}
    return Response(content, media_type="application/json", headers=headers)


@router.post("/rerun", status_code=202, responses={200: {"model": Run}, 404: {}, 409: {}, 503: {}})
def rerun(run_id: InstanceId, request: RerunRequest, where: ActiveRegion, response: Response) -> Run:
    """Run an ended run again, beside the old one."""
    first, named = (one.partition("~")[0] for one in (run_id, request.run_id))
    if named != first:
        detail = f"body.run_id: a rerun of {run_id} is called {first}~ with a number, such as {first}~2"
        raise Problem(422, "invalid request", detail)
    with failures_are_problems():
        indexed = where.known(run_id)
        _demand_rerunnable(where, indexed, request.from_step)
        accepted = where.index.accept(
            request.run_id,
            indexed.input | ({"run_id": request.run_id} if request.fresh else {}),
            agent=indexed.agent,
            rerun_of=run_id,
            rerun_step=request.from_step,
        )
    if accepted.outcome == "conflict":
        raise Problem(409, "conflict", f"run {request.run_id} exists and is another rerun; choose another number")
    response.headers["Location"] = f"/v1/runs/{request.run_id}"
    if accepted.outcome == "existing":
        response.status_code = 200
    else:
        log.info("run %s is run again as %s", run_id, request.model_dump_json())
        where.schedule(accepted.run)
    return Run.accepted(accepted.run)


def found(region: Region, run_id: str) -> tuple[IndexedRun | None, RunStatus | None]:
    """A run with its workflow. What a run asked another agent was never accepted: it has a workflow alone."""
    indexed = region.index.get(run_id)
    workflow = region.sidecars.ask(lambda client: client.status(run_id))
    if indexed is None and workflow is None:
        raise Problem(404, "not found", f"no run {run_id} was accepted")
    return indexed, workflow


def _events(region: Region, run_id: str) -> list[HistoryEvent]:
    _, workflow = found(region, run_id)
    # A sidecar has no history of a run whose workflow is yet to come: it answers with an error.
    return region.sidecars.ask(lambda client: client.history(run_id)) if workflow is not None else []


def _demand_rerunnable(region: Region, run: IndexedRun, step: int | None) -> None:
    workflow = region.sidecars.ask(lambda client: client.status(run.run_id))
    if not (workflow.is_terminal if workflow else run.closed_at):
        status = workflow.status if workflow else run.status
        raise Problem(409, "not ended", f"run {run.run_id} is {status}; only a run that has ended can be run again")
    if step is not None:
        try:
            region.sidecars.ask(lambda client: client.task_of(run.run_id, step))
        except ValueError as error:
            raise Problem(422, "invalid request", f"body.from_step: {error}") from error
