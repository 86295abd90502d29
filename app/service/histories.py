"""What a run did, step by step or as a file, and running it again."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic_ai_dapr import ExportError, HistoryEvent, RunStatus, Step, steps
from run_index import IndexedRun
from serving import Problem

from service.actions import RerunRequest, run_again
from service.answers import Run
from service.region import ActiveRegion, InstanceId, Region, failures_are_problems
from service.trail import Caller, recorded

router = APIRouter(prefix="/v1/runs/{run_id}")


@router.get("/history")
def history(run_id: InstanceId, where: ActiveRegion) -> list[HistoryEvent]:
    """Every event of the run's workflow, since it began; of a rerun and of what a run asked another agent too."""
    with failures_are_problems():
        return events_of(where, run_id)


@router.get("/steps")
def each_step(run_id: InstanceId, where: ActiveRegion) -> list[Step]:
    """Every attempt at every operation: input, output or error, when, and for how many seconds."""
    with failures_are_problems():
        return steps(events_of(where, run_id))


@router.get("/export", response_class=Response, responses={200: {"content": {"application/json": {}}}, 409: {}})
def export(run_id: InstanceId, where: ActiveRegion, caller: Caller) -> Response:
    """The run's whole history as a file, with its signatures: `holdfast replay` and `holdfast verify` check it."""
    with failures_are_problems(), recorded(where, caller, "download history", run_id):
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
def rerun(run_id: InstanceId, request: RerunRequest, where: ActiveRegion, caller: Caller, response: Response) -> Run:
    """Run an ended run again, beside the old one."""
    detail = request.model_dump_json(exclude_defaults=True)
    with failures_are_problems(), recorded(where, caller, "rerun", run_id, detail):
        run, is_new = run_again(where, run_id, request)
    response.headers["Location"] = f"/v1/runs/{run.run_id}"
    if not is_new:
        response.status_code = 200
    return run


def found(region: Region, run_id: str) -> tuple[IndexedRun | None, RunStatus | None]:
    """A run with its workflow. What a run asked another agent was never accepted: it has a workflow alone."""
    indexed = region.index.get(run_id)
    workflow = region.sidecars.ask(lambda client: client.status(run_id))
    if indexed is None and workflow is None:
        raise Problem(404, "not found", f"no run {run_id} was accepted")
    return indexed, workflow


def events_of(region: Region, run_id: str) -> list[HistoryEvent]:
    """A run's events, none where its workflow is yet to come."""
    _, workflow = found(region, run_id)
    # A sidecar has no history of a run whose workflow is yet to come: it answers with an error.
    return region.sidecars.ask(lambda client: client.history(run_id)) if workflow is not None else []
