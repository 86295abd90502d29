"""Runs a durable graph on the in-memory engine: everything of the library but its gRPC, everything through JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

from langgraph.graph.state import CompiledStateGraph
from langgraph_dapr import DaprWorkflowGraphRunner
from pydantic_ai_dapr import Attempt, HistoryEvent, RunExistsError, RunStatus, WorkflowUnavailableError
from pydantic_ai_dapr.confirmation import Confirmations, Saved, Tasks
from pydantic_ai_dapr.errors import to_value
from pydantic_ai_dapr.host import Deliveries, OperationHost
from pydantic_ai_dapr.journal import Journal
from pydantic_ai_dapr.payloads import Payloads
from pydantic_ai_dapr.types import RunError

from tests.support.durable_agents import Values
from tests.support.workflow_engine import Engine, Event, activity_context

RUN = "run-1"


@dataclass
class DurableGraphRun:
    """A run of `graph`; `replace_worker` is what a crash leaves of the process: nothing."""

    graph: CompiledStateGraph[Any, Any, Any, Any]
    given: Any
    config: Any = None
    context: Any = None
    kept_runs: int = 8
    segment_answers: int = 100
    inline_bytes: int = 128 * 1024
    by_itself: bool = False
    """Whether the run goes on each time that somebody looks at it; then a test starts it."""
    attempts: list[Attempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.values = Values()
        self.engine: Engine | None = None
        self.error: BaseException | None = None
        self.runner = DaprWorkflowGraphRunner(
            self.graph, name="graph", port=1, kept_runs=self.kept_runs, segment_answers=self.segment_answers
        )
        payloads = Payloads(self.values, self.inline_bytes)
        self.runner.journal = Journal(payloads, lambda _: self._events())
        self.runner.client.payloads = payloads
        self.runner.client._journal = Journal(payloads, lambda _: self._events())  # pyright: ignore[reportPrivateUsage]
        self.runner.client.hub = self  # type: ignore[assignment]
        self.activities = self.runner.activities()
        self.replace_worker()
        if not self.by_itself:
            self.runner.schedule(self.given, config=self.config, workflow_id=RUN, context=self.context)

    def replace_worker(self) -> None:
        """Forget what a process would have in memory."""
        self.runner.kept.clear()
        self.runner.deliveries = Deliveries(
            OperationHost(self.attempts.append),
            Confirmations(self._saved, self._tasks),
            Payloads(self.values, self.inline_bytes),
        )

    def serve(self, name: str, value: Any) -> Any:
        """Execute one activity."""
        assert self.engine is not None
        task = next(event for event in self.engine.history if event.kind == "scheduled" and event.value is value)
        context = activity_context(self.engine.instance_id, task)
        return json.loads(json.dumps(self.activities[name](context, json.loads(json.dumps(value)))))

    def turn(self) -> None:
        """One work item. What the workflow raises is its end."""
        assert self.engine is not None
        inbox = list(self.engine.inbox)
        try:
            self.engine.turn()
        except Exception as error:
            self.engine.ended, self.error = True, error
            self.engine.history += inbox

    def go_on(self) -> None:
        """To the end, or to where the run waits for an answer."""
        assert self.engine is not None
        if not self.engine.history:
            self.turn()
        while not self.engine.ended and (self.engine.wakeups or self.engine.inbox):
            for number in list(self.engine.wakeups):
                self.engine.serve(number, self.serve)
            self.turn()

    def finish(self) -> Any:
        """The run's output, or its error raised."""
        self.go_on()
        assert self.engine is not None
        assert self.engine.ended
        if self.error:
            raise self.error
        return self.runner.wait(RUN)

    def executed(self) -> list[tuple[str, int]]:
        """What was really executed: nodes with their ordinals, in the order of their ends."""
        return [(one.name, one.ordinal) for one in self.attempts if one.phase == "ended" and one.outcome == "ok"]

    # What the runner asks of the sidecar.

    def start(self, instance_id: str, workflow: str, value: Any, timeout: float) -> None:
        if self.engine is not None:
            raise RunExistsError(instance_id)
        workflow = self.runner._workflow(self.runner.kept)  # pyright: ignore[reportPrivateUsage]
        self.engine = Engine(workflow, instance_id, json.loads(json.dumps(value)))

    def status(self, instance_id: str, timeout: float, *, payloads: bool = True) -> RunStatus | None:
        if self.engine is None or instance_id != self.engine.instance_id:
            return None
        if self.by_itself:
            self.go_on()
        error = RunError(type=type(self.error).__name__, message=str(self.error)) if self.error else None
        state = "failed" if error else "completed" if self.engine.ended else "running"
        now = self.engine._now.replace(tzinfo=UTC)  # pyright: ignore[reportPrivateUsage]
        return RunStatus(
            run_id=instance_id, status=state, created_at=now, updated_at=now, output=self.engine.result, error=error
        )

    def raise_event(self, instance_id: str, name: str, value: Any, timeout: float) -> None:
        if self.engine is None or instance_id != self.engine.instance_id:
            raise WorkflowUnavailableError(f"no {instance_id}")
        self.engine.inbox.append(Event("raised", name=name, value=json.loads(json.dumps(value))))

    def history(self, instance_id: str, timeout: float) -> list[HistoryEvent]:
        return self._events()

    def recorded(self, instance_id: str, timeout: float) -> list[bytes]:
        raise WorkflowUnavailableError("this engine has no protobuf")

    def close(self) -> None: ...

    def _saved(self, instance_id: str) -> Saved:
        assert self.engine is not None
        return Saved.parse(self.engine.custom_status, self.engine.ended)

    def _tasks(self, instance_id: str) -> Tasks:
        assert self.engine is not None
        return Tasks({event.id: event.execution_id for event in self.engine.history if event.kind == "scheduled"})

    def _events(self) -> list[HistoryEvent]:
        """The engine's history as the sidecar tells it."""
        assert self.engine is not None
        found: list[HistoryEvent] = []
        now = None
        for event in self.engine.history:
            if event.kind == "turn":
                now = event.value.replace(tzinfo=UTC)
                if not found:
                    self._tell(found, "executionStarted", now, input=self.engine.input)
            elif event.kind == "scheduled":
                self._tell(found, "taskScheduled", now, task_id=event.id, name=event.name, input=event.value)
            elif event.kind == "completed":
                error = to_value(event.value) if event.failed else None
                self._tell(
                    found,
                    "taskFailed" if error else "taskCompleted",
                    now,
                    task_id=event.id,
                    result=None if error else event.value,
                )
            elif event.kind == "raised":
                self._tell(found, "eventRaised", now, name=event.name, input=event.value)
        return found

    def _tell(self, found: list[HistoryEvent], kind: str, at: Any, **fields: Any) -> None:
        found.append(HistoryEvent(sequence=len(found), type=kind, timestamp=at, **fields))
