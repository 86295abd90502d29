"""A run's page: what it did and where, and what can be done to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi import Path as PathParameter
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError
from pydantic_ai_dapr import ExportError, HistoryEvent
from run_index import IndexedRun
from serving import Problem

from service import actions, approvals
from service.actions import RerunRequest
from service.answers import Run
from service.approvals import Decision
from service.console.access import Note, OperatorForm, Session, Visitor, demand_operator
from service.console.pages import render
from service.console.timeline import timeline
from service.console.trail import recorded
from service.histories import events_of, found
from service.region import ActiveRegion, InstanceId, Region
from service.replay import replayed_apart
from service.state_store import stored_history

router = APIRouter(prefix="/runs/{run_id}")
TERMINAL = ("completed", "failed", "terminated")
Number = Annotated[int, PathParameter(ge=1, le=1_000_000)]


@dataclass(frozen=True)
class Seen:
    """A run with its events, as this region can tell them: a standby reads its copy of the database."""

    run: Run
    indexed: IndexedRun | None
    events: list[HistoryEvent]

    @property
    def is_open(self) -> bool:
        return self.run.status not in TERMINAL


def see(region: Region, run_id: str) -> Seen:
    """The run. Raises Problem where there is none."""
    role = region.role()
    if role is not None and role.role == "active":
        indexed, workflow = found(region, run_id)
        return Seen(Run.of(indexed, workflow), indexed, events_of(region, run_id) if workflow else [])
    indexed, events = region.index.get(run_id), stored_history(region.store, run_id)
    if indexed is None and not events:
        raise Problem(404, "not found", f"no run {run_id} was accepted")
    ended = next((event for event in events if event.type in ("executionCompleted", "executionTerminated")), None)
    output = ended.result if ended else None
    if indexed is not None:
        return Seen(Run.accepted(indexed).model_copy(update={"output": output}), indexed, events)
    status = "running" if ended is None else "terminated" if ended.type == "executionTerminated" else "completed"
    name = next((event.name for event in events if event.type == "executionStarted"), None) or ""
    started = events[0].timestamp
    run = Run(run_id=run_id, agent=name.rpartition(".")[2], status=status, accepted_at=started, output=output)
    return Seen(run, None, events)


@router.get("")
def show(request: Request, run_id: InstanceId, visitor: Visitor) -> Response:
    """Everything about a run."""
    console = request.app.state.console
    seen, now = see(console.region, run_id), datetime.now(UTC)
    role = console.region.role()
    return render(
        request,
        "run",
        run=seen.run,
        indexed=seen.indexed,
        is_open=seen.is_open,
        timeline=timeline(seen.events, console.epochs.all(), now),
        acts=visitor.is_operator and role is not None and role.role == "active",
        deeds=console.region.audit.page(limit=20, subject=run_id),
    )


@router.get("/steps/{ordinal}/{attempt}")
def show_step(request: Request, run_id: InstanceId, ordinal: Number, attempt: Number, visitor: Visitor) -> Response:
    """One attempt at an operation, with all of its input and output."""
    console = request.app.state.console
    lines = timeline(see(console.region, run_id).events, console.epochs.all(), datetime.now(UTC)).lines
    line = next((one for one in lines if (one.step.ordinal, one.step.attempt) == (ordinal, attempt)), None)
    if line is None:
        raise Problem(404, "not found", f"run {run_id} has no attempt {attempt} at operation {ordinal}")
    return render(request, "step", run_id=run_id, line=line)


@router.post("/cancel")
def cancel(request: Request, run_id: InstanceId, where: ActiveRegion, session: Visitor, form: OperatorForm) -> Response:
    """End the run."""
    with recorded(request, session, "cancel", run_id):
        actions.cancel(where, run_id)
    return _back(session, run_id, f"Run {run_id} was cancelled.")


@router.post("/rerun")
def rerun(request: Request, run_id: InstanceId, where: ActiveRegion, session: Visitor, form: OperatorForm) -> Response:
    """Run it again beside the old one: whole, from a step, or under keys of its own."""
    step = form.get("from_step", "").strip()
    fields: dict[str, Any] = {"from_step": int(step) if step.isdecimal() else step or None}
    fields["fresh"] = form.get("fresh") == "yes"
    new_id = actions.next_rerun(where, run_id)
    try:
        asked = RerunRequest(run_id=new_id, **fields)
    except ValidationError as error:
        raise Problem(422, "invalid request", error.errors()[0]["msg"]) from error
    with recorded(request, session, "rerun", run_id, asked.model_dump_json(exclude_defaults=True)):
        run, _ = actions.run_again(where, run_id, asked)
    return _back(session, run.run_id, f"Run {run_id} is run again as {run.run_id}.")


@router.post("/decide")
def decide(request: Request, run_id: InstanceId, where: ActiveRegion, session: Visitor, form: OperatorForm) -> Response:
    """Approve or deny a tool call that waits for somebody's decision."""
    call, verdict = form.get("tool_call_id", ""), form.get("verdict", "")
    message = form.get("message", "").strip()[:2000] or None
    if verdict not in ("approve", "deny"):
        raise Problem(422, "invalid request", "approve or deny")
    try:
        decision = Decision(tool_call_id=call, approved=verdict == "approve", who=session.who, message=message)
    except ValidationError as error:
        raise Problem(422, "invalid request", error.errors()[0]["msg"]) from error
    with recorded(request, session, decision.verdict, run_id, decision.told):
        is_new = approvals.decide_call(where, run_id, decision)
    said = "approved" if decision.approved else "denied"
    return _back(session, run_id, f"The call {'is' if is_new else 'was'} {said}; the run goes on.")


@router.get("/history")
def history(request: Request, run_id: InstanceId, where: ActiveRegion, session: Visitor) -> Response:
    """The whole history as a file, as the API gives it: nothing in it is masked, or nobody could check it."""
    demand_operator(session)
    with recorded(request, session, "download history", run_id):
        content = _export(where, run_id)
    headers = {"Content-Disposition": f'attachment; filename="{run_id}.json"'}
    return Response(content, media_type="application/json", headers=headers)


@router.post("/replay")
def replay(request: Request, run_id: InstanceId, where: ActiveRegion, session: Visitor, form: OperatorForm) -> Response:
    """Run the agent's code of today over the history, and show the first difference."""
    console = request.app.state.console
    config = console.region.config
    if not console.replaying.acquire(blocking=False):
        raise Problem(429, "too many requests", "another history is being replayed; try again in a moment")
    try:
        with recorded(request, session, "replay", run_id):
            content = _export(where, run_id)
            result = replayed_apart(content, config.agent, config.console.model, config.console.max_iterations)
    finally:
        console.replaying.release()
    return render(request, "replay", run_id=run_id, result=result)


def _export(region: Region, run_id: str) -> bytes:
    _, workflow = found(region, run_id)
    if workflow is None:
        raise Problem(409, "no history yet", f"run {run_id} has no workflow yet")
    try:
        return region.sidecars.ask(lambda client: client.export(run_id, region.store)).content()
    except ExportError as error:
        raise Problem(409, "no history yet", str(error)) from error


def _back(session: Session, run_id: str, done: str) -> Response:
    session.notes.append(Note("done", done))
    return RedirectResponse(f"/console/runs/{run_id}", 303)
