"""`DaprWorkflowAgentRunner`: hosts an agent as a Dapr workflow."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from dapr.conf import settings
from dapr.ext.workflow import WorkflowRuntime
from pydantic import TypeAdapter
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter
from pydantic_ai.usage import RunUsage, UsageLimits
from pydantic_core import to_jsonable_python

from pydantic_ai_dapr.client import workflow_name
from pydantic_ai_dapr.confirmation import Confirmations
from pydantic_ai_dapr.conversations import Conversations, Inputs
from pydantic_ai_dapr.driver import KeptRuns, drive
from pydantic_ai_dapr.durability import DaprDurability
from pydantic_ai_dapr.host import AttemptHook, Body, Envelope, OperationHost
from pydantic_ai_dapr.run import current_run
from pydantic_ai_dapr.taskhub import TaskHub
from pydantic_ai_dapr.types import (
    HistoryEvent,
    Operation,
    RunFailedError,
    RunInput,
    RunStatus,
    WorkflowUnavailableError,
)

log = logging.getLogger(__name__)

Deps = TypeVar("Deps")
Output = TypeVar("Output")
FOLLOW_SECONDS = 0.1
CALL_SECONDS = 5.0
HISTORY_READS = 10


@dataclass(frozen=True)
class RunResult(Generic[Output]):
    """A completed run: its typed output, usage, and every message in order."""

    run_id: str
    output: Output
    usage: RunUsage
    messages: list[ModelMessage]


class DaprWorkflowAgentRunner(Generic[Deps, Output]):
    """Once `schedule` has returned, the run survives the loss of this process and goes on wherever a worker is.

    Every model request and tool call is an activity: one that completed is not executed again. `max_iterations`
    bounds the model requests of a run. The agent must have the capability `DaprDurability`. The sidecar is found at
    `host` and `port` (default: Dapr's environment variables); `api_token` is the sidecar's API token.
    """

    def __init__(
        self,
        name: str,
        agent: Agent[Deps, Output],
        max_iterations: int = 25,
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        api_token: str | None = None,
        kept_runs: int = 256,
        on_attempt: AttemptHook | None = None,
        concurrency: int = 100,
    ) -> None:
        self.name, self.agent, self.max_iterations = name, agent, max_iterations
        self._port = port or int(settings.DAPR_GRPC_PORT)
        self._host, self._concurrency = host, concurrency
        self._token = api_token or os.environ.get("DAPR_API_TOKEN")
        self._durability = _durability_of(agent)
        self._kept = KeptRuns(kept_runs)
        self._on_attempt = on_attempt
        self._hub = TaskHub(host, self._port, self._token)
        self._operations: OperationHost | None = None
        self._confirmations: Confirmations | None = None
        self._runtime: WorkflowRuntime | None = None

    def start(self) -> None:
        """Connect to the sidecar, and execute runs until `shutdown`."""
        if self._token:
            setattr(settings, "DAPR_API_TOKEN", self._token)  # noqa: B010  # the SDK reads it there; untyped
        backend = self._durability.get_durable_operation_backend()
        self._operations = OperationHost(self._on_attempt)
        self._confirmations = Confirmations(lambda instance_id: self._hub.saved_up_to(instance_id, CALL_SECONDS))
        conversations = Conversations(1024, self._model_inputs)
        backend.executor = _Executor(self._operations, conversations, self._confirmations)
        runtime: Any = WorkflowRuntime(
            host=self._host,
            port=str(self._port),
            maximum_concurrent_activity_work_items=self._concurrency,
            maximum_concurrent_orchestration_work_items=self._concurrency,
            maximum_thread_pool_workers=self._concurrency + 8,
        )
        runtime.register_workflow(self._workflow(), name=workflow_name(self.name))
        for activity_name, activity in backend.activities.items():
            runtime.register_activity(activity, name=activity_name)
        runtime.start()
        self._runtime = runtime

    def shutdown(self) -> None:
        """Stop executing runs; they go on in another worker."""
        if self._confirmations is not None:
            self._confirmations.stop()
            self._confirmations = None
        if self._runtime is not None:
            self._runtime.shutdown()
            self._runtime = None
        if self._operations is not None:
            self._operations.stop()
            self._operations = None
        self._kept.clear()
        self._hub.close()

    def schedule(
        self,
        prompt: str | None = None,
        *,
        deps: Deps | None = None,
        message_history: list[ModelMessage] | None = None,
        run_id: str | None = None,
        timeout: float = 10.0,
    ) -> str:
        """Start a run and return its id, within `timeout` seconds.

        Raises TypeError where `deps` can't be carried, RunExistsError where the id is taken, and
        WorkflowUnavailableError where the sidecar does not answer: then whether the run started is unknown.
        """
        run_id = run_id or uuid.uuid4().hex
        history = ModelMessagesTypeAdapter.dump_python(message_history, mode="json") if message_history else None
        run_input = RunInput(
            run_id=run_id,
            prompt=prompt,
            deps=self._durability.deps_codec().dump(deps),
            message_history=history,
        )
        self._hub.start(run_id, workflow_name(self.name), run_input.model_dump(mode="json"), timeout)
        return run_id

    def status(self, run_id: str) -> RunStatus | None:
        """The run's state, or None where there is no such run."""
        return self._hub.status(run_id, CALL_SECONDS)

    def wait(self, run_id: str, timeout: float = 60.0) -> RunResult[Output]:
        """The result of a run. Raises RunFailedError where it ended without one, and TimeoutError."""
        deadline = time.monotonic() + timeout
        while True:
            status = self.status(run_id)
            if status is not None and status.is_terminal:
                return self._result(status)
            if time.monotonic() > deadline:
                seen = status.status if status else "unknown"
                raise TimeoutError(f"run {run_id} did not end within {timeout:g} s; it was {seen} when last seen")
            time.sleep(FOLLOW_SECONDS)

    def run_sync(
        self,
        prompt: str | None = None,
        *,
        deps: Deps | None = None,
        message_history: list[ModelMessage] | None = None,
        run_id: str | None = None,
        timeout: float = 60.0,
    ) -> RunResult[Output]:
        """Start a run and wait for its result."""
        run_id = self.schedule(prompt, deps=deps, message_history=message_history, run_id=run_id)
        return self.wait(run_id, timeout)

    async def run(
        self,
        prompt: str | None = None,
        *,
        deps: Deps | None = None,
        message_history: list[ModelMessage] | None = None,
        run_id: str | None = None,
        timeout: float = 60.0,  # noqa: ASYNC109  # the same names as `run_sync`
    ) -> RunResult[Output]:
        """Start a run and wait for its result, without blocking the event loop."""
        return await asyncio.to_thread(
            self.run_sync, prompt, deps=deps, message_history=message_history, run_id=run_id, timeout=timeout
        )

    def _workflow(self) -> Any:
        async def agent_run(run_input: RunInput) -> dict[str, Any]:
            run = current_run.get()
            assert run is not None
            run.notes["run_id"] = run_input.run_id
            history = run_input.message_history
            result = await self.agent.run(
                run_input.prompt,
                deps=self._durability.deps_codec().load(run_input.deps),
                message_history=ModelMessagesTypeAdapter.validate_python(history) if history else None,
                usage_limits=UsageLimits(request_limit=self.max_iterations),
                infer_name=False,
            )
            return {
                "output": to_jsonable_python(result.output),
                "usage": to_jsonable_python(result.usage),
                "messages": ModelMessagesTypeAdapter.dump_python(result.all_messages(), mode="json"),
            }

        def workflow(ctx: Any, payload: dict[str, Any]) -> Generator[Any, Any, Any]:
            run_input = RunInput.model_validate(payload)
            return (yield from drive(ctx, lambda: agent_run(run_input), self._kept))

        return workflow

    def _result(self, status: RunStatus) -> RunResult[Output]:
        if status.status != "completed" or not isinstance(status.output, dict):
            raise RunFailedError(status)
        output_type = cast("type[Output]", self.agent.output_type)
        return RunResult(
            run_id=status.run_id,
            output=TypeAdapter(output_type).validate_python(status.output["output"]),
            usage=TypeAdapter(RunUsage).validate_python(status.output["usage"]),
            messages=ModelMessagesTypeAdapter.validate_python(status.output["messages"]),
        )

    async def _history(self, instance_id: str) -> list[HistoryEvent]:
        """The run's history; a read may meet a state that is being written, and is then repeated."""
        for _ in range(HISTORY_READS - 1):
            try:
                return await asyncio.to_thread(self._hub.history, instance_id, CALL_SECONDS)
            except WorkflowUnavailableError as error:
                log.info("run %s: reading the history again: %s", instance_id, error)
                await asyncio.sleep(FOLLOW_SECONDS)
        return await asyncio.to_thread(self._hub.history, instance_id, CALL_SECONDS)

    async def _model_inputs(self, instance_id: str) -> Inputs:
        names = self._durability.get_durable_operation_backend().model_activities
        events = await self._history(instance_id)
        inputs: dict[int, dict[str, Any]] = {}
        for event in events:
            if event.type == "taskScheduled" and event.name in names and isinstance(event.input, dict):
                envelope = cast("dict[str, Any]", event.input)
                inputs[envelope["ordinal"]] = envelope["params"]
        return inputs


@dataclass(frozen=True)
class _Executor:
    """Where this runner's activities run, their messages are made whole, and their answers wait for their turn."""

    operations: OperationHost
    conversations: Conversations
    confirmations: Confirmations

    def execute(self, operation: Operation, body: Body) -> Envelope:
        return self.operations.execute(operation, body)

    def confirm(self, instance_id: str, task_id: int) -> None:
        self.confirmations.wait(instance_id, task_id)

    async def expand(self, instance_id: str, ordinal: int, wire: Envelope) -> Envelope:
        return await self.conversations.expand(instance_id, ordinal, wire)


def _durability_of(agent: Agent[Any, Any]) -> DaprDurability:
    found = DaprDurability.from_agent(agent)
    if found is None:
        raise ValueError("the agent is not durable; make it with Agent(…, capabilities=[DaprDurability()])")
    return found
