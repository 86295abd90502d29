"""How the parameters of each kind of operation cross to a worker that may be another process, as JSON.

A model request carries only the messages that are new since the run's last one, and the tools only where they have
changed: the history of a run grows with its length, not with its square.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

from pydantic import TypeAdapter
from pydantic_ai.durable_exec import (
    CapabilityMethodDeclaration,
    CapabilityOperationParams,
    DurabilityEngineSpec,
    DurableRunContext,
    DynamicToolsetCallToolParams,
    EventStreamHandlerParams,
    ModelCancelSuspendedResponseParams,
    ModelCompactMessagesParams,
    ModelRequestContextProjection,
    ModelRequestParams,
    ParameterTransport,
    ParameterTransports,
    ToolsetCallToolParams,
    ToolsetGetToolsParams,
    WorkspaceCall,
    WorkspaceCallParams,
    revalidate_function_call,
)
from pydantic_ai.messages import AgentStreamEvent, ModelMessage, ModelMessagesTypeAdapter, ModelResponse
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.tools import RunContext, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, DynamicToolset, FunctionToolset
from pydantic_ai.workspaces import WorkspaceRef
from pydantic_core import to_jsonable_python

from pydantic_ai_dapr.remote_tools import RemoteTools

Params = TypeVar("Params")
Wire = dict[str, Any]
_parameters = TypeAdapter(ModelRequestParameters)
_response = TypeAdapter(ModelResponse)
_event: TypeAdapter[Any] = TypeAdapter(AgentStreamEvent)
_definition = TypeAdapter(ToolDefinition)
_request = TypeAdapter(ModelRequestContextProjection)
_call = TypeAdapter(WorkspaceCall)
_ref = TypeAdapter(WorkspaceRef | None)


class DaprRunContext(DurableRunContext[Any]):
    """A run's context, rebuilt where an activity executes."""


@dataclass(frozen=True)
class LastRequest:
    """What the next model request may refer to: this run's last one, as its worker saw it."""

    ordinal: int
    messages: tuple[ModelMessage, ...]
    parameters: Wire


def model_wire(params: ModelRequestParams, last: LastRequest | None, parameters: Wire) -> Wire:
    """The messages as `{after, keep, tail}`: the first `keep` of request `after`, then `tail`."""
    messages = params.messages
    keep = 0
    if last is not None:
        for mine, theirs in zip(messages, last.messages, strict=False):
            if mine is not theirs and mine != theirs:
                break
            keep += 1
    wire: Wire = {
        "model": params.model_id,
        "settings": to_jsonable_python(params.model_settings),
        "after": last.ordinal if last and keep else None,
        "keep": keep,
        "tail": ModelMessagesTypeAdapter.dump_python(messages[keep:], mode="json"),
    }
    if last is None or last.parameters != parameters or not keep:
        wire["parameters"] = parameters
    return wire


def parameters_wire(params: ModelRequestParams) -> Wire:
    """The tools and output modes that a model request offers."""
    return cast(Wire, _parameters.dump_python(params.model_request_parameters, mode="json"))


def _without_defaults(context: Mapping[str, Any]) -> Wire:
    return {key: value for key, value in context.items() if value is not None}


@dataclass
class Deps:
    """Carries an agent's dependencies as its `deps_type` describes them, if that can be carried at all."""

    deps_type: Any

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.deps_type)

    def dump(self, deps: object) -> Any:
        """Raises TypeError, naming the remedy, where the value can't be carried as JSON."""
        if deps is None:
            return None
        try:
            return self._adapter.dump_python(deps, mode="json")
        except Exception as error:
            raise TypeError(
                f"deps of type {type(deps).__name__} can't be carried as JSON: {error}. Durable runs move between "
                "processes: use a Pydantic model or dataclass of plain data, and open connections inside tools."
            ) from error

    def load(self, wire: object) -> Any:
        """The dependencies again."""
        return None if wire is None else self._adapter.validate_python(wire)


@dataclass(frozen=True)
class Boundary:
    """What every transport needs: the agent, its dependencies' type and the engine's description."""

    agent: Callable[[], Any]
    deps: Callable[[], Deps]
    spec: DurabilityEngineSpec

    def dump_context(self, context: RunContext[Any] | None) -> Wire:
        if context is None:
            return {"ctx": None}
        serialized = to_jsonable_python(_without_defaults(DaprRunContext.serialize_run_context(context)))
        return {"ctx": serialized, "deps": self.deps().dump(context.deps)}

    def load_context(self, wire: Wire) -> Any:
        if wire["ctx"] is None:
            return None
        context = dict.fromkeys(_CONTEXT_FIELDS) | wire["ctx"]
        return DaprRunContext.restore(
            context, deps=self.deps().load(wire.get("deps")), agent=self.agent(), engine_spec=self.spec
        )


_CONTEXT_FIELDS = (
    "conversation_id",
    "metadata",
    "tool_call_id",
    "tool_name",
    "tool_call_metadata",
    "partial_output",
    "usage_limits",
    "deadline",
    "capability_active",
)
"""Fields of a serialized context that may be None: absent on the wire, None again behind it."""


@dataclass(frozen=True)
class Transport(ParameterTransport[Params, Wire], Generic[Params]):
    """Context and dependencies, with what `pack` and `unpack` add for one kind of operation."""

    boundary: Boundary
    context: Callable[[Params], RunContext[Any] | None]
    pack: Callable[[Params], Wire]
    unpack: Callable[[Wire, Any], Params]
    remote: RemoteTools[Any] | None = None
    """The tools whose calls these are, where another app executes them."""

    def dump(self, params: Params) -> Wire:
        return self.boundary.dump_context(self.context(params)) | self.pack(params)

    def load(self, payload: Wire, *, runtime: object) -> Params:
        return self.unpack(payload, self.boundary.load_context(payload))


class DaprTransports(ParameterTransports):
    """One transport for each kind of operation."""

    def __init__(self, boundary: Boundary) -> None:
        self.boundary = boundary

    def model_request(self, result_type: object) -> Transport[ModelRequestParams]:
        # The messages are added by `model_wire`, and put back before `load`.
        return Transport(
            self.boundary,
            lambda p: p.run_context,
            lambda p: {},
            lambda w, ctx: ModelRequestParams(
                w["model"],
                messages=w["messages"],
                model_settings=w["settings"],
                model_request_parameters=_parameters.validate_python(w["parameters"]),
                run_context=ctx,
            ),
        )

    def cancel_suspended_response(self) -> Transport[ModelCancelSuspendedResponseParams]:
        return Transport(
            self.boundary,
            lambda p: p.run_context,
            lambda p: {"model": p.model_id, "response": _response.dump_python(p.response, mode="json")},
            lambda w, ctx: ModelCancelSuspendedResponseParams(
                w["model"], response=_response.validate_python(w["response"]), run_context=ctx
            ),
        )

    def event_stream_handler(self) -> Transport[EventStreamHandlerParams]:
        return Transport(
            self.boundary,
            lambda p: p.run_context,
            lambda p: {"event": _event.dump_python(p.event, mode="json")},
            lambda w, ctx: EventStreamHandlerParams(_event.validate_python(w["event"]), run_context=ctx),
        )

    def capability_operation(self, declaration: CapabilityMethodDeclaration) -> Transport[CapabilityOperationParams]:
        return Transport(
            self.boundary,
            lambda p: p.run_context,
            lambda p: {"arguments": to_jsonable_python(p.arguments), "model": p.model_id},
            lambda w, ctx: CapabilityOperationParams(ctx, arguments=w["arguments"], model_id=w["model"]),
        )

    def compact_messages(self) -> Transport[ModelCompactMessagesParams]:
        def pack(params: ModelCompactMessagesParams) -> Wire:
            request = ModelRequestContextProjection.from_context(params.request_context)
            wire = _request.dump_python(request, mode="json")
            return {"model": params.model_id, "request": wire, "instructions": params.instructions}

        def unpack(wire: Wire, ctx: Any) -> ModelCompactMessagesParams:
            request = _request.validate_python(wire["request"]).build_context(cast(Any, None))
            return ModelCompactMessagesParams(
                wire["model"], request_context=request, instructions=wire["instructions"], run_context=ctx
            )

        return Transport(self.boundary, lambda p: p.run_context, pack, unpack)

    def workspace_call(self) -> Transport[WorkspaceCallParams]:
        return Transport(
            self.boundary,
            lambda p: p.run_context,
            lambda p: {"call": _call.dump_python(p.call, mode="json"), "ref": to_jsonable_python(p.ref)},
            lambda w, ctx: WorkspaceCallParams(
                run_context=ctx, ref=_ref.validate_python(w["ref"]), call=_call.validate_python(w["call"])
            ),
        )

    def function_call(self, toolset: FunctionToolset[Any]) -> Transport[ToolsetCallToolParams]:
        return Transport(
            self.boundary,
            lambda p: p.ctx,
            lambda p: {"name": p.name, "args": to_jsonable_python(p.tool_args)},
            lambda w, ctx: ToolsetCallToolParams(w["name"], tool_args=w["args"], ctx=ctx, tool=None),
            toolset if isinstance(toolset, RemoteTools) else None,
        )

    async def prepare_function_call(
        self, toolset: FunctionToolset[Any], params: ToolsetCallToolParams
    ) -> ToolsetCallToolParams:
        return await revalidate_function_call(toolset, params, engine_spec=self.boundary.spec)

    def mcp_call(self, toolset: AbstractToolset[Any]) -> Transport[ToolsetCallToolParams]:
        def pack(params: ToolsetCallToolParams) -> Wire:
            assert params.tool is not None
            definition = _definition.dump_python(params.tool.tool_def, mode="json")
            return {"name": params.name, "args": to_jsonable_python(params.tool_args), "def": definition}

        def unpack(wire: Wire, ctx: Any) -> ToolsetCallToolParams:
            definition = _definition.validate_python(wire["def"])
            tool = cast(Any, toolset).tool_for_tool_def(definition, ctx=ctx)
            return ToolsetCallToolParams(wire["name"], tool_args=wire["args"], ctx=ctx, tool=tool)

        return Transport(self.boundary, lambda p: p.ctx, pack, unpack)

    def get_tools(self, toolset: AbstractToolset[Any]) -> Transport[ToolsetGetToolsParams]:
        return Transport(self.boundary, lambda p: p.ctx, lambda p: {}, lambda w, ctx: ToolsetGetToolsParams(ctx))

    def get_instructions(self, toolset: AbstractToolset[Any]) -> Transport[ToolsetGetToolsParams]:
        return self.get_tools(toolset)

    def dynamic_get_tools(self, toolset: DynamicToolset[Any]) -> Transport[ToolsetGetToolsParams]:
        return self.get_tools(toolset)

    def dynamic_call(self, toolset: DynamicToolset[Any]) -> Transport[DynamicToolsetCallToolParams]:
        def pack(params: DynamicToolsetCallToolParams) -> Wire:
            definition = _definition.dump_python(params.tool_def, mode="json") if params.tool_def else None
            return {"name": params.name, "args": to_jsonable_python(params.tool_args), "def": definition}

        def unpack(wire: Wire, ctx: Any) -> DynamicToolsetCallToolParams:
            definition = _definition.validate_python(wire["def"]) if wire["def"] else None
            return DynamicToolsetCallToolParams(wire["name"], tool_args=wire["args"], ctx=ctx, tool_def=definition)

        return Transport(self.boundary, lambda p: p.ctx, pack, unpack)
