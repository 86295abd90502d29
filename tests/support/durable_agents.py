"""Runs a durable agent on the in-memory engine: everything of the library but its gRPC, everything through JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter
from pydantic_ai_dapr import Attempt, DaprWorkflowAgentRunner, RunInput
from pydantic_ai_dapr.agents import AgentHost
from pydantic_ai_dapr.confirmation import Confirmations, Saved, Task, Tasks
from pydantic_ai_dapr.conversations import Conversations, Inputs
from pydantic_ai_dapr.host import Deliveries, Envelope, OperationBody, OperationHost
from pydantic_ai_dapr.journal import Journal
from pydantic_ai_dapr.payloads import Payloads

from tests.support.workflow_engine import Engine, Event, activity_context


@dataclass
class Worker:
    """One process's part: executes activities, remembers conversations, keeps suspended runs."""

    runner: AgentHost
    engine: Engine
    values: Values
    attempts: list[Attempt] = field(default_factory=list)

    on_attempt: Callable[[Attempt], None] = lambda attempt: None
    confirmations: Callable[..., Confirmations] = Confirmations

    def __post_init__(self) -> None:
        self.operations = OperationHost(self._attempted)
        self.deliveries = Deliveries(
            self.operations, self.confirmations(self._saved, self._tasks), Payloads(self.values)
        )
        self.conversations = Conversations(8, self._inputs)

    def handle(self, task: Task, delivered: Envelope, body: OperationBody) -> Envelope:
        return self.deliveries.handle(task, delivered, body)

    async def expand(self, instance_id: str, ordinal: int, wire: Envelope) -> Envelope:
        return await self.conversations.expand(instance_id, ordinal, wire)

    def stop(self) -> None:
        """End its thread."""
        self.operations.stop()

    def _attempted(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        self.on_attempt(attempt)

    def _saved(self, instance_id: str) -> Saved:
        return Saved.parse(self.engine.custom_status, self.engine.ended)

    def _tasks(self, instance_id: str) -> Tasks:
        history = self.engine.history
        scheduled = {event.id: event.execution_id for event in history if event.kind == "scheduled"}
        return Tasks(scheduled, frozenset(event.id for event in history if event.kind == "completed"))

    async def _inputs(self, instance_id: str) -> Inputs:
        payloads = Payloads(self.values)
        history = self.engine.earlier + self.engine.history
        requests = [one.value for one in history if one.kind == "scheduled" and "__model.request" in one.name]
        return {value["ordinal"]: payloads.resolve(value["params"]) for value in requests}


class Values(dict[str, bytes]):
    """A state store in memory."""

    write = dict[str, bytes].__setitem__
    read = dict[str, bytes].get
    delete = dict[str, bytes].__delitem__


@dataclass
class DurableRun:
    """A run of `agent`; `replace_worker` is what a crash leaves of the process: nothing."""

    agent: Agent[Any, Any]
    prompt: str = "go"
    deps: Any = None
    kept_runs: int = 8
    max_iterations: int = 25
    segment_answers: int = 100
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.values = Values()
        self.attempts: list[Attempt] = []
        self.worker: Worker | None = None
        workflow = self.host(self.agent)
        deps = self.durability.deps_codec().dump(self.deps)
        run_input = RunInput(run_id="run-1", prompt=self.prompt, deps=deps, **self.arguments)
        self.engine = Engine(workflow, input=json.loads(run_input.model_dump_json()))
        self.replace_worker()

    def host(self, agent: Agent[Any, Any]) -> Any:
        """The workflow, as a process has it that hosts the agent."""
        self.runner = self.runner_of(agent)
        self.durability = self.runner._durability  # pyright: ignore[reportPrivateUsage]
        self.durability.bind_toolsets()
        self.backend = self.durability.get_durable_operation_backend()
        self.registered = dict(self.backend.activities)  # a worker has those that there are when it starts
        return self.runner._workflow(self.runner.kept, self.journal())  # pyright: ignore[reportPrivateUsage]

    def runner_of(self, agent: Agent[Any, Any]) -> DaprWorkflowAgentRunner[Any, Any]:
        """What hosts the agent in a process."""
        return DaprWorkflowAgentRunner(
            agent,
            name="agent",
            max_iterations=self.max_iterations,
            port=1,
            kept_runs=self.kept_runs,
            segment_answers=self.segment_answers,
        )

    def journal(self) -> Journal:
        """What the process keeps earlier segments in."""
        return Journal(Payloads(self.values), lambda instance_id: [])

    def make_worker(self) -> Worker:
        """What executes the process's activities."""
        return Worker(self.runner, self.engine, self.values, self.attempts)

    def replace_worker(self) -> None:
        """Forget what a process would have in memory."""
        self.stop()
        self.runner.kept.clear()
        self.backend.executor = self.worker = self.make_worker()

    def stop(self) -> None:
        """End the process's threads."""
        if self.worker is not None:
            self.worker.stop()
            self.worker = None

    def serve(self, name: str, value: Any) -> Any:
        """Execute one activity."""
        return self.deliver(next(event for event in self.engine.history if event.value is value))

    def deliver(self, task: Event) -> Any:
        """Execute what a task asks for."""
        answer = self.registered[task.name](activity_context("run-1", task), json.loads(json.dumps(task.value)))
        return json.loads(json.dumps(answer))

    def finish(self) -> tuple[Any, list[ModelMessage]]:
        """Output and messages of the run, brought to its end."""
        result = self.engine.run_on(self.serve) if self.engine.history else self.engine.run(self.serve)
        output = self.runner._outputs.load(result)  # pyright: ignore[reportPrivateUsage]
        return output, ModelMessagesTypeAdapter.validate_python(result["messages"])


def comparable(messages: list[ModelMessage]) -> list[Any]:
    """The messages without what differs between any two runs: times and generated identifiers."""
    return [_without_noise(one) for one in ModelMessagesTypeAdapter.dump_python(messages, mode="json")]


_NOISE = {"timestamp", "duration", "run_id", "conversation_id", "provider_response_id", "tool_call_id"}


def _without_noise(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_noise(one) for key, one in value.items() if key not in _NOISE}
    if isinstance(value, list):
        return [_without_noise(one) for one in value]
    return value
