"""What a run waits for a person to decide, and the decision."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic_ai_dapr import HistoryEvent, approval_event, steps
from serving import Problem

from service.region import ActiveRegion, InstanceId, Region, failures_are_problems
from service.trail import Caller, recorded

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/runs/{run_id}")

CallId = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,200}$")]


class Waiting(BaseModel):
    """A tool call that nobody has decided yet."""

    tool_call_id: str
    tool: str
    arguments: JsonValue = None


class Decision(BaseModel):
    """What `who` decides about a tool call; the model is told the `message` of a denied one."""

    model_config = ConfigDict(extra="forbid")

    tool_call_id: CallId
    approved: bool
    who: Annotated[str, Field(min_length=1, max_length=200)]
    message: Annotated[str, Field(max_length=10_000)] | None = None

    @property
    def verdict(self) -> Literal["approve", "deny"]:
        """The decision as a deed."""
        return "approve" if self.approved else "deny"

    @property
    def told(self) -> str:
        """What it is about, and why, in one line."""
        return f"{self.tool_call_id}{f': {self.message}' if self.message else ''}"


@router.get("/approvals")
def approvals(run_id: InstanceId, where: ActiveRegion) -> list[Waiting]:
    """The tool calls that the run waits for a decision about."""
    with failures_are_problems():
        where.known(run_id)
        workflow = where.sidecars.ask(lambda client: client.status(run_id))
        if workflow is None or workflow.is_terminal:
            return []
        return waiting(where.sidecars.ask(lambda client: client.history(run_id)))


@router.post("/approvals", status_code=202, responses={200: {"model": Decision}, 404: {}, 409: {}, 503: {}})
def decide(run_id: InstanceId, decision: Decision, where: ActiveRegion, caller: Caller, response: Response) -> Decision:
    """Decide a tool call. The first decision counts; the same one again is answered with 200, and changes nothing."""
    actor = replace(caller, who=decision.who)
    with failures_are_problems(), recorded(where, actor, decision.verdict, run_id, decision.told):
        if not decide_call(where, run_id, decision):
            response.status_code = 200
    return decision


def decide_call(region: Region, run_id: str, decision: Decision) -> bool:
    """Whether the decision is new. Raises Problem where another was taken before, or where nobody waits for one."""
    call = decision.tool_call_id
    region.known(run_id)
    workflow = region.sidecars.ask(lambda client: client.status(run_id))
    events = region.sidecars.ask(lambda client: client.history(run_id)) if workflow else []
    before = _decided(events, call)
    if before is not None:
        if before != decision.approved:
            told = "approved" if before else "denied"
            raise Problem(409, "already decided", f"call {call} of run {run_id} was {told} before")
        return False
    if workflow is not None and workflow.is_terminal:
        raise Problem(409, "already ended", f"run {run_id} is {workflow.status}")
    if call not in {one.tool_call_id for one in waiting(events)}:
        raise Problem(409, "not waiting", f"run {run_id} does not wait for a decision about call {call}")
    region.sidecars.ask(
        lambda client: client.approve(
            run_id, call, approved=decision.approved, message=decision.message, who=decision.who
        )
    )
    log.info("run %s: call %s is %s by %s", run_id, call, "approved" if decision.approved else "denied", decision.who)
    return True


def waiting(events: Sequence[HistoryEvent]) -> list[Waiting]:
    """The calls of the model's last answer that were neither decided nor made; none where the run has ended.

    A history gets an answer together with the calls that are made at once.
    """
    done = steps(events) if events and events[-1].type != "executionCompleted" else []
    last = next((one for one in reversed(done) if one.kind == "model" and one.output is not None), None)
    if last is None:
        return []
    made = {_call_of(one.input) for one in done if one.ordinal > last.ordinal}
    raised = {event.name for event in events if event.type == "eventRaised"}
    parts = _object(last.output).get("parts")
    calls = [_object(part) for part in (cast("list[JsonValue]", parts) if isinstance(parts, list) else [])]
    return [
        Waiting(tool_call_id=str(one["tool_call_id"]), tool=str(one["tool_name"]), arguments=one.get("args"))
        for one in calls
        if one.get("part_kind") == "tool-call"
        and one["tool_call_id"] not in made
        and approval_event(str(one["tool_call_id"])) not in raised
    ]


def _decided(events: Sequence[HistoryEvent], call: str) -> bool | None:
    """Whether the first decision about the call was to approve; None where there is none."""
    name = approval_event(call)
    first = next((event for event in events if event.type == "eventRaised" and event.name == name), None)
    return None if first is None else _object(first.input).get("kind") == "tool-approved"


def _call_of(params: JsonValue) -> str:
    return str(_object(_object(params).get("ctx")).get("tool_call_id"))


def _object(value: JsonValue) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
