"""`DaprDurability`: the capability that makes an agent's model requests and tool calls activities of a workflow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from pydantic import TypeAdapter
from pydantic_ai import Agent
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    BoundDurableOperation,
    CapabilityOperationId,
    DurabilityEngineSpec,
    DurableOperation,
    EventStreamHandlerId,
    JournalOperationNamer,
    ModelCancelSuspendedResponseId,
    ModelCompactMessagesId,
    ModelRequestId,
    ModelRequestParams,
    RegisteredOperationBackend,
    RoleBasedOperationConfig,
    ToolsetCallToolId,
    conversation_id_from_run_id,
)
from pydantic_ai.tools import RunContext
from pydantic_ai.toolsets import AbstractToolset, CombinedToolset, DynamicToolset
from pydantic_ai.usage import RunUsage

from pydantic_ai_dapr.confirmation import Task
from pydantic_ai_dapr.host import Envelope, OperationBody, opened
from pydantic_ai_dapr.loop import InlineExecutor
from pydantic_ai_dapr.operations import perform
from pydantic_ai_dapr.progress import PROGRESS, current_progress
from pydantic_ai_dapr.remote_tools import RemoteTools
from pydantic_ai_dapr.retry import Retry
from pydantic_ai_dapr.run import LiveRun, current_run
from pydantic_ai_dapr.tracing import RunTracing
from pydantic_ai_dapr.types import Kind, Operation
from pydantic_ai_dapr.wire import Boundary, DaprTransports, Deps, LastRequest, model_wire, parameters_wire

ENGINE = DurabilityEngineSpec(
    engine_name="Dapr Workflow",
    durable_unit_noun="activity",
    durable_unit_plural="activities",
    durable_container_noun="workflow",
    codec=JSON_CODEC,
    tool_config_key="dapr",
    toolset_lifecycles={
        "function": "enter-outside-durable",
        "mcp": "enter-outside-durable",
        "dynamic": "enter-never",
    },
    unsupported_runtime_toolset_kinds=frozenset({"function", "mcp", "dynamic"}),
    accepts_cancellation_token=True,
)
LAST_REQUEST = "last-model-request"
_usage = TypeAdapter(RunUsage)


class ActivityExecutor(Protocol):
    """Where an activity is executed, and the messages of a model request are made whole."""

    def handle(self, task: Task, delivered: Envelope, body: OperationBody) -> Envelope: ...
    async def expand(self, instance_id: str, ordinal: int, wire: Envelope) -> Envelope: ...


Activity = Callable[[Any, Envelope], Envelope]


@dataclass
class _Bound(BoundDurableOperation[Any, Any, Any]):
    """Calls an operation from inside the workflow, and tries it again as its `Retry` says."""

    declared: DurableOperation[Any, Any, Any]
    name: str
    kind: Kind
    retry: Retry

    @property
    def operation(self) -> DurableOperation[Any, Any, Any]:
        return self.declared

    async def __call__(self, params: Any, *, config: object | None = None) -> Any:
        run = current_run.get()
        if run is None:
            raise RuntimeError(f"{self.name} was called outside a durable run")
        retry = config if isinstance(config, Retry) else self.retry
        payload = self._payload(run, params)
        ordinal, label = run.next_ordinal(), self._label(params)
        operation = Operation(run.notes["run_id"], run.instance_id, ordinal, self.kind, label, 1)
        context: RunContext[Any] | None = getattr(params, "ctx", None)

        def spent(usage: Any) -> None:
            if context is not None:
                context.usage.incr(_usage.validate_python(usage))

        answer, _ = await perform(run, self.name, operation, lambda: payload(ordinal), retry, spent)
        return self.declared.result_codec.load(answer)

    def _payload(self, run: LiveRun, params: Any) -> Callable[[int], Envelope]:
        """Makes the activity's parameters, when they are needed: never during replay."""
        dump = self.declared.parameter_transport.dump
        if not isinstance(params, ModelRequestParams):
            return lambda ordinal: dump(params)
        before: LastRequest | None = run.notes.get(LAST_REQUEST)
        parameters = parameters_wire(params)
        run.notes[LAST_REQUEST] = LastRequest(run.ordinal + 1, tuple(params.messages), parameters)
        messages = list(params.messages)
        whole = ModelRequestParams(
            params.model_id,
            messages=messages,
            model_settings=params.model_settings,
            model_request_parameters=params.model_request_parameters,
            run_context=params.run_context,
        )

        def payload(ordinal: int) -> Envelope:
            run.clock.set(messages)
            return dump(whole) | model_wire(whole, before, parameters)

        return payload

    def _label(self, params: Any) -> str:
        name: object = getattr(params, "name", None)
        if isinstance(name, str):
            return name
        return self.kind if self.kind != "model" else str(getattr(params, "model_id", None) or "model")


class DaprBackend(RegisteredOperationBackend[Retry]):
    """Registers an activity for each operation of an agent."""

    def __init__(self, agent_name: str, retry: Retry, transports: DaprTransports) -> None:
        super().__init__(
            namer=JournalOperationNamer(agent_name),
            config=RoleBasedOperationConfig(model=retry, event=retry, capability=retry, tool=retry),
            parameter_transports=transports,
        )
        self.activities: dict[str, Activity] = {}
        self.model_activities: set[str] = set()
        self.tool_calls: dict[str, OperationBody] = {}
        """What executes a call, by the id of its toolset."""
        self.remote_tools: list[RemoteTools[Any]] = []
        self.executor: ActivityExecutor | None = None

    def register(
        self, operation: DurableOperation[Any, Any, Any], *, name: str, config: Retry
    ) -> tuple[BoundDurableOperation[Any, Any, Any], Sequence[Callable[..., object]]]:
        kind = _kind(operation)
        is_request = isinstance(operation.operation_id, ModelRequestId)

        async def execute(current: Operation, wire: Envelope) -> object:
            params = operation.parameter_transport.load(wire, runtime=None)
            context: RunContext[Any] | None = getattr(params, "ctx", None)
            before = copy(context.usage) if context is not None else RunUsage()
            progress = current_progress()
            progress.resume(wire.get(PROGRESS))
            try:
                return operation.result_codec.dump(await operation.handler(params))
            finally:
                # A tool may ask another agent on its run's account.
                if context is not None and context.usage != before:
                    progress.usage = _usage.dump_python(context.usage - before, mode="json")

        body: OperationBody = execute
        remote: RemoteTools[Any] | None = None
        if isinstance(operation.operation_id, ToolsetCallToolId):
            remote = getattr(operation.parameter_transport, "remote", None)
            if remote is not None:
                self.remote_tools.append(remote)
                body = remote.forward
            self.tool_calls[operation.operation_id.toolset_id] = body

        def activity(ctx: Any, payload: Envelope) -> Envelope:
            executor = self.executor
            if executor is None:
                raise RuntimeError(f"activity {name} was called before its runner was started")
            if remote is not None:
                remote.delivered(opened(ctx.workflow_id, payload))

            async def request(current: Operation, wire: Envelope) -> object:
                return await execute(current, await executor.expand(current.instance_id, current.ordinal, wire))

            return executor.handle(Task.of(ctx), payload, request if is_request else body)

        activity.__name__ = name
        self.activities[name] = activity
        if is_request:
            self.model_activities.add(name)
        return _Bound(operation, name, kind, config), (activity,)


class DaprDurability(BaseDurabilityCapability[Any]):
    """Attach it to an agent, and inside a Dapr workflow that agent's operations are durable activities.

    Outside a workflow the agent works as ever. `retry` bounds the attempts at an operation that fails for a reason
    that may pass.
    """

    engine_spec = ENGINE

    def __init__(
        self,
        *,
        models: Mapping[str, Any] | None = None,
        event_stream_handler: Any = None,
        name: str | None = None,
        retry: Retry | None = None,
    ) -> None:
        super().__init__(models=models, event_stream_handler=event_stream_handler, name=name)
        self._retry = retry or Retry()
        self._backend: DaprBackend | None = None
        self._deps: Deps | None = None

    def for_agent(self, agent: Any) -> AbstractCapability[Any]:
        """Bind to the agent, once."""
        return self if self._agent is agent else super().for_agent(agent)

    def _bind_to_agent(self, agent: Any) -> None:
        super()._bind_to_agent(agent)
        if self._event_stream_handler is not None:
            self._bound_event_operation = self._bind_event_operation(self.get_durable_operation_backend())

    def bind_toolsets(self) -> None:
        """Make activities of the toolsets that `@agent.toolset` has added since the agent was built."""

        def bind(leaf: AbstractToolset[Any]) -> AbstractToolset[Any]:
            return self._wrap_and_register_leaf(leaf) if isinstance(leaf, DynamicToolset) else leaf

        assert self.agent is not None
        for toolset in self.agent.toolsets:
            toolset.visit_and_replace(bind)

    def _reject_runtime_toolsets(self, toolset: AbstractToolset[Any]) -> None:
        # PydanticAI lets pass only what an agent was built with: its other engines can't bind anything later.
        leaves: list[AbstractToolset[Any]] = []
        toolset.apply(leaves.append)
        bound = [one.wrapped for one in self._toolsets_by_id.values()]
        super()._reject_runtime_toolsets(CombinedToolset([one for one in leaves if not any(one is it for it in bound)]))

    def deps_codec(self) -> Deps:
        """How the agent's dependencies cross to a worker."""
        if self._deps is None:
            deps_type: Any = getattr(self.agent, "deps_type", None)
            self._deps = Deps(Any if deps_type in (None, type(None)) else deps_type)
        return self._deps

    def get_durable_operation_backend(self) -> DaprBackend:
        if self._backend is None:
            boundary = Boundary(lambda: self.agent, self.deps_codec, ENGINE)
            self._backend = DaprBackend(str(self.name), self._retry, DaprTransports(boundary))
        return self._backend

    def _companion_capabilities(self) -> list[AbstractCapability[Any]]:
        return [RunTracing(), *super()._companion_capabilities()]

    @property
    def in_durable_context(self) -> bool:
        return current_run.get() is not None

    def get_default_run_id(self) -> str | None:
        run = current_run.get()
        return str(run.uuid()) if run else None

    def get_default_conversation_id(self, run_id: str) -> str | None:
        return conversation_id_from_run_id(run_id) if self.in_durable_context else None

    def get_run_clock(self) -> Callable[[], datetime] | None:
        run = current_run.get()
        return (lambda: datetime.fromtimestamp(run.now(), UTC)) if run else None

    async def wrap_run(self, ctx: Any, *, handler: Callable[[], Awaitable[Any]]) -> Any:
        run = current_run.get()
        if run is None:
            return await handler()
        with Agent.using_thread_executor(InlineExecutor()), Agent.using_sleep(asyncio.sleep):
            return await super().wrap_run(ctx, handler=handler)


def _kind(operation: DurableOperation[Any, Any, Any]) -> Kind:
    match operation.operation_id:
        case ModelRequestId() | ModelCompactMessagesId() | ModelCancelSuspendedResponseId():
            return "model"
        case ToolsetCallToolId():
            return "tool"
        case EventStreamHandlerId():
            return "event"
        case CapabilityOperationId():
            return "capability"
        case _:
            return "toolset"
