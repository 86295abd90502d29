"""Runs a workflow's code over a recorded history, with no sidecar, and says whether it does the same.

The SDK's own executor applies the events, so that the code meets exactly what it met in production: its answers, its
times, its signals in their order. No model is asked and no tool is called.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportUnknownParameterType=false, reportMissingTypeStubs=false
# pyright: reportPrivateUsage=false
from __future__ import annotations

import difflib
import json
import logging
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import dapr.ext.workflow._durabletask.internal.protos as pb
from dapr.ext.workflow import DaprWorkflowContext
from dapr.ext.workflow._durabletask.worker import _OrchestrationExecutor, _Registry
from pydantic import JsonValue

from pydantic_ai_dapr.export import Export
from pydantic_ai_dapr.payloads import PayloadLostError
from pydantic_ai_dapr.recorded import failure_of, json_of, parse, time_of
from pydantic_ai_dapr.worker import Context

log = logging.getLogger(__name__)
Workflow = Callable[[Any, Any], Generator[Any, Any, Any]]
_SETS = frozenset(
    (
        "loaded_capability_ids",
        "discovered_tool_names",
        "available_tool_names",
        "active_capability_ids",
        "_deferred_capability_ids",
    )
)
_DELIVERED = frozenset(("trace", "issued_at"))
_ANONYMOUS = re.compile(r"^<(\w+):[0-9a-f]{6}>$")
_REPORTS_SPANS, _TELLS_ALL = "instrumentation", "trace_include_content"
_SCHEDULED = ("taskScheduled", "timerCreated", "childWorkflowInstanceCreated")


@dataclass(frozen=True)
class Difference:
    """Where the code first did something else. `position` is the event's in the history; None means nothing at all."""

    position: int
    ordinal: int | None
    recorded: JsonValue
    done: JsonValue

    def __str__(self) -> str:
        where = f"event {self.position}" + (f", operation {self.ordinal}" if self.ordinal is not None else "")
        lines = difflib.unified_diff(_lines(self.recorded), _lines(self.done), "history", "code", n=2, lineterm="")
        return "\n".join([f"the code does something else at {where}:", *lines])


@dataclass(frozen=True)
class ReplayReport:
    """What a replay showed: `actions` that are the same, and the first that isn't.

    A history without its end, of a run that had not ended, is compared as far as it goes.
    """

    instance_id: str
    events: int
    actions: int
    difference: Difference | None

    @property
    def same(self) -> bool:
        """Whether the code did all that the history has, in its order, with the same inputs, and nothing else."""
        return self.difference is None


class _Context(Context):
    """Asks the code for inputs that are otherwise taken from the history."""

    compares = "inputs"


class _QuickContext(Context):
    """Asks the code only which operations it performs."""

    compares = "operations"


def replay(
    workflow: Workflow,
    export: Export,
    resolve: Callable[[JsonValue], JsonValue] = lambda value: value,
    *,
    inputs: bool = True,
) -> ReplayReport:
    """Run `workflow(context, input)` over the export's events; for an agent, see `DaprWorkflowAgentRunner.replay`.

    `resolve` gives the payload that a reference in an input or result stands for, on either side. Earlier segments
    of a run are brought back by their answers, and not compared. Without `inputs` only the operations are compared,
    their order, names and attempts, which is quicker.
    """

    def begin(context: Any, value: Any) -> Any:
        return workflow(DaprWorkflowContext(context), value)

    registry = _Registry()
    registry.add_named_orchestrator(export.workflow, begin)
    executor, actions = _OrchestrationExecutor(registry, log), 0
    events = [parse(one) for one in export.recorded]
    context = (_Context if inputs else _QuickContext)(export.instance_id, events)
    rerun = any(event.taskScheduled.HasField("rerunParentInstanceInfo") for event in events)
    for position, event in enumerate(events):
        kind = event.WhichOneof("eventType")
        if kind in (*_SCHEDULED, "executionCompleted"):
            pair = (_event(event), _done(context, event))
            recorded, done = (_comparable(one, resolve) for one in pair) if inputs else map(_operation_alone, pair)
            if rerun and isinstance(recorded, dict) and isinstance(done, dict):
                # Children that answered before the step that the run was run again from are the old run's.
                done = done | {"instance": recorded["instance"]} if "instance" in recorded else done
            if recorded != done:
                return ReplayReport(export.instance_id, len(events), actions, _difference(position, recorded, done))
            actions += 1
        if kind == "executionCompleted":
            return ReplayReport(export.instance_id, len(events), actions, None)
        try:
            executor.process_event(context, event)
        except PayloadLostError:
            raise
        except Exception as error:
            context.set_failed(error)
    for action in context.get_actions():
        done = _action(action)
        different = _difference(len(events), None, _comparable(done, resolve) if inputs else _operation_alone(done))
        return ReplayReport(export.instance_id, len(events), actions, different)
    return ReplayReport(export.instance_id, len(events), actions, None)


def _operation_alone(value: JsonValue) -> JsonValue:
    """An action without its parameters, its end without its output."""
    if not isinstance(value, dict):
        return value
    if "end" in value:
        return {"end": value["end"]}
    given = value.get("input")
    named = {key: given.get(key) for key in ("ordinal", "kind", "name", "attempt")} if isinstance(given, dict) else None
    return {**value, "input": named}


def _done(context: Context, event: Any) -> JsonValue:
    """What the code did where the history has `event`."""
    if event.HasField("executionCompleted"):
        return next((_action(action) for action in context.get_actions()), None)
    action: Any = context._pending_actions.get(event.eventId)
    if action is None:
        return None
    for mine, theirs in (("scheduleTask", "taskScheduled"), ("createChildWorkflow", "childWorkflowInstanceCreated")):
        if action.HasField(mine) and event.HasField(theirs) and not getattr(action, mine).HasField("input"):
            # The code didn't make the input anew: that could ask somebody outside, who has been asked.
            getattr(action, mine).input.CopyFrom(getattr(event, theirs).input)
    return _action(action)


def _event(event: Any) -> JsonValue:
    if event.HasField("taskScheduled"):
        return _activity(event.taskScheduled)
    if event.HasField("timerCreated"):
        return _timer(event.timerCreated)
    if event.HasField("childWorkflowInstanceCreated"):
        return _child(event.childWorkflowInstanceCreated)
    return _end(event.executionCompleted)


def _action(action: Any) -> JsonValue:
    if action.HasField("scheduleTask"):
        return _activity(action.scheduleTask)
    if action.HasField("createTimer"):
        return _timer(action.createTimer)
    if action.HasField("createChildWorkflow"):
        return _child(action.createChildWorkflow)
    return _end(action.completeWorkflow)


def _activity(body: Any) -> JsonValue:
    return {"activity": body.name, "input": _asked(_payload(body, "input"))}


def _timer(body: Any) -> JsonValue:
    if body.HasField("externalEvent"):
        return {"wait for event": body.externalEvent.name}
    return {"timer": time_of(body.fireAt).isoformat()}


def _child(body: Any) -> JsonValue:
    return {"child workflow": body.name, "instance": body.instanceId, "input": _asked(_payload(body, "input"))}


def _end(body: Any) -> JsonValue:
    status = pb.OrchestrationStatus.Name(body.workflowStatus).removeprefix("ORCHESTRATION_STATUS_").lower()
    failed = failure_of(body.failureDetails).model_dump() if body.HasField("failureDetails") else None
    return {"end": status, "output": _payload(body, "result"), "error": failed}


def _payload(body: Any, field: str) -> JsonValue:
    return json_of(getattr(body, field).value) if body.HasField(field) else None


def _asked(value: JsonValue) -> JsonValue:
    """An input without its trace, and without the time of the turn that asked for it.

    Whether there is a trace is up to the process, not to the agent. A turn that the engine delivers again, because
    sidecars came or went, may be saved with what its earlier delivery asked for, and with a later time of its own.
    """
    return {key: one for key, one in value.items() if key not in _DELIVERED} if isinstance(value, dict) else value


def _difference(position: int, recorded: JsonValue, done: JsonValue) -> Difference:
    ordinals = [
        payload["ordinal"]
        for side in (recorded, done)
        if isinstance(side, dict) and isinstance(payload := side.get("input"), dict) and "ordinal" in payload
    ]
    ordinal = ordinals[0] if ordinals and isinstance(ordinals[0], int) else None
    return Difference(position, ordinal, recorded, done)


def _comparable(value: JsonValue, resolve: Callable[[JsonValue], JsonValue]) -> JsonValue:
    """The value without what PydanticAI takes from outside the workflow, anew at each execution of the same code.

    That is the time at which a message was put together, how long an attempt at a model took, the order of sets, names
    of anonymous capabilities, and whether the process that executes the agent reports its spans.
    """
    value = resolve(value)
    if isinstance(value, list):
        return [_comparable(one, resolve) for one in value]
    if not isinstance(value, dict):
        return value
    is_message = "part_kind" in value or {"parts", "kind"} <= value.keys()
    is_attempt = {"outcome", "model_name", "duration"} <= value.keys()
    taken = {"timestamp"} if is_message else {"timestamp", "duration"} if is_attempt else ()
    kept = {key: one for key, one in value.items() if key not in taken and key != _TELLS_ALL}
    return {key: _as_set(one) if key in _SETS else _comparable(one, resolve) for key, one in kept.items()}


def _as_set(names: JsonValue) -> JsonValue:
    if not isinstance(names, list):
        return names
    return [*sorted(_ANONYMOUS.sub(r"<\1>", str(name)) for name in names if name != _REPORTS_SPANS)]


def _lines(value: JsonValue) -> list[str]:
    return ["nothing"] if value is None else json.dumps(value, indent=1, sort_keys=True).splitlines()
