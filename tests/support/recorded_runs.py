"""The in-memory engine with the SDK's own executor in it: its history is protobuf, as daprd would have recorded it."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import dapr.ext.workflow._durabletask.internal.protos as pb
from dapr.ext.workflow import DaprWorkflowContext
from dapr.ext.workflow._durabletask.worker import _OrchestrationExecutor, _Registry
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import StringValue
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai_dapr import DaprDurability, Export, HistoryEvent, Retry
from pydantic_ai_dapr.journal import Journal
from pydantic_ai_dapr.payloads import Payloads
from pydantic_ai_dapr.recorded import readable

from tests.support.durable_agents import DurableRun
from tests.support.workflow_engine import Engine, Event

Turns = list[list[tuple[str, int]]]
_COPIED = {
    "scheduleTask": "taskScheduled",
    "createChildWorkflow": "childWorkflowInstanceCreated",
    "createTimer": "timerCreated",
}


@dataclass
class RecordingEngine(Engine):
    """As `Engine`; `values` is the app's own state, which an export takes along."""

    name: str = "pydantic_ai_dapr.agent"
    values: dict[str, bytes] = field(default_factory=dict)
    recorded: list[pb.HistoryEvent] = field(default_factory=list)
    children: set[int] = field(default_factory=set)

    def turn(self, now: datetime | None = None) -> None:
        """One work item, by the SDK."""
        self._now = (now or self._now) + timedelta(seconds=1)
        at = Timestamp()
        at.FromDatetime(self._now)
        new = [pb.HistoryEvent(eventId=-1, timestamp=at, workflowStarted=pb.WorkflowStartedEvent())]
        if not self.recorded:
            started = pb.ExecutionStartedEvent(name=self.name, input=_text(self.input))
            started.workflowInstance.instanceId = self.instance_id
            new.append(pb.HistoryEvent(eventId=-1, timestamp=at, executionStarted=started))
        new += [_arrived(event, at, event.id in self.children) for event in self.inbox]
        registry = _Registry()
        registry.add_named_orchestrator(self.name, self._begin)
        executor = _OrchestrationExecutor(registry, logging.getLogger("recorded-runs"))
        results = executor.execute(self.instance_id, self.recorded, new)
        self.custom_status = results.encoded_custom_status or ""
        new[0].workflowStarted.version.patches.extend(results.patches or [])
        self.recorded += new
        self.history += self.inbox
        self.inbox = []
        for action in sorted(results.actions, key=lambda one: one.id):
            self._take(action, at)

    def terminate(self) -> None:
        """End the workflow from outside."""
        self.inbox.append(Event("terminated"))
        self.turn()

    def export(self) -> Export:
        """The history as it is now."""
        return Export.of(self.instance_id, self._bytes(), payloads=self.values)

    def events(self) -> list[HistoryEvent]:
        """The history as the journal is given it."""
        return readable(self._bytes())

    def _bytes(self) -> list[bytes]:
        return [event.SerializeToString() for event in self.recorded]

    def _begin(self, context: Any, value: Any) -> Generator[Any, Any, Any]:
        wrapped = DaprWorkflowContext(context)
        return self.workflow(wrapped) if self.input is None else self.workflow(wrapped, value)

    def _take(self, action: pb.WorkflowAction, at: Timestamp) -> None:
        kind = action.WhichOneof("workflowActionType")
        body = getattr(action, kind)
        if kind == "completeWorkflow" and body.workflowStatus == pb.ORCHESTRATION_STATUS_CONTINUED_AS_NEW:
            self.input = json.loads(body.result.value)
            self.recorded, self.history, self.wakeups = [], [], {}
            self.executions += 1
            self.inbox = [
                Event("raised", name=one.eventRaised.name, value=json.loads(one.eventRaised.input.value or "null"))
                for one in body.carryoverEvents
            ]
            self.turn(self._now)
            return
        if kind == "completeWorkflow":
            self.ended, self.result = True, json.loads(body.result.value) if body.HasField("result") else None
            ended = pb.ExecutionCompletedEvent(workflowStatus=body.workflowStatus)
            if body.HasField("result"):
                ended.result.CopyFrom(body.result)
            if body.HasField("failureDetails"):
                ended.failureDetails.CopyFrom(body.failureDetails)
            self.recorded.append(pb.HistoryEvent(eventId=action.id, timestamp=at, executionCompleted=ended))
            return
        event = pb.HistoryEvent(eventId=action.id, timestamp=at)
        recorded = getattr(event, _COPIED[kind])
        if kind == "scheduleTask":
            recorded.name = body.name
            recorded.input.CopyFrom(body.input)
            seen = Event("scheduled", action.id, body.name, json.loads(body.input.value))
        elif kind == "createChildWorkflow":
            recorded.name, recorded.instanceId = body.name, body.instanceId
            recorded.input.CopyFrom(body.input)
            seen = Event("scheduled", action.id, body.name, json.loads(body.input.value))
        else:
            recorded.fireAt.CopyFrom(body.fireAt)
            if body.HasField("externalEvent"):
                recorded.externalEvent.CopyFrom(body.externalEvent)
            else:
                recorded.createTimer.CopyFrom(body.createTimer)
            seen = Event("timer", action.id)
        self.recorded.append(event)
        self.history.append(seen)
        self.children |= {action.id} if kind == "createChildWorkflow" else set()
        if kind != "createTimer" or not body.HasField("externalEvent"):
            self.wakeups[action.id] = seen


def _arrived(event: Event, at: Timestamp, of_child: bool) -> pb.HistoryEvent:
    made = pb.HistoryEvent(eventId=-1, timestamp=at)
    if event.kind == "terminated":
        made.executionTerminated.recurse = True
    elif event.kind == "fired":
        made.timerFired.timerId = event.id
    elif event.kind == "raised":
        made.eventRaised.name = event.name
        if event.value is not None:
            made.eventRaised.input.CopyFrom(_text(event.value))
    elif event.failed:
        made.taskFailed.taskScheduledId = event.id
        made.taskFailed.failureDetails.errorType = type(event.value).__name__
        made.taskFailed.failureDetails.errorMessage = str(event.value)
    else:
        completed = made.childWorkflowInstanceCompleted if of_child else made.taskCompleted
        completed.taskScheduledId = event.id
        completed.result.CopyFrom(_text(event.value))
    return made


def _text(value: Any) -> StringValue:
    return StringValue(value=json.dumps(value))


def scripted(turns: Turns, weather: random.Random | None = None, **options: Any) -> Agent[None, str]:
    """Calls the tools of each turn side by side, then ends. In bad `weather` the model is away now and then."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if weather is not None and weather.random() < 0.2:
            raise ModelHTTPError(503, "m")
        made = sum(isinstance(message, ModelResponse) for message in messages)
        if made >= len(turns):
            return ModelResponse(parts=[TextPart("done")])
        return ModelResponse(parts=[ToolCallPart(name, {"n": n}) for name, n in turns[made]])

    durability = DaprDurability(retry=Retry(attempts=3))
    agent = Agent(FunctionModel(answer), name="agent", retries=2, capabilities=[durability], **options)

    @agent.tool_plain
    def double(n: int) -> int:
        return 2 * n

    @agent.tool_plain
    def even(n: int) -> int:
        if n % 2:
            raise ModelRetry("an even number, please")
        return n

    @agent.tool_plain
    def breaks(n: int) -> int:
        if n == 9:
            raise ZeroDivisionError("by zero")
        return n

    return agent


def recording(agent: Agent[Any, Any], segment_answers: int = 100) -> tuple[DurableRun, RecordingEngine]:
    run = DurableRun(agent, segment_answers=segment_answers)
    return run, recorded(run)


def recorded(run: DurableRun) -> RecordingEngine:
    """The engine of a run that has yet to begin, in place of its own."""
    journal = Journal(Payloads(run.values, inline_bytes=500), lambda _: engine.events())
    workflow = run.runner._workflow(run.runner.kept, journal)  # pyright: ignore[reportPrivateUsage]
    engine = RecordingEngine(workflow, input=run.engine.input, values=run.values)
    run.engine = engine
    run.replace_worker()
    return engine


def finished(agent: Agent[Any, Any], segment_answers: int = 100) -> Export:
    run, engine = recording(agent, segment_answers)
    engine.run(run.serve)
    run.stop()
    return engine.export()
