"""`ToolHost`: executes the tools of other apps' agents, under an identity of its own."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from dapr.conf import settings
from dapr.ext.workflow import WorkflowRuntime
from pydantic_ai import Agent
from pydantic_ai.tools import RunContext
from pydantic_ai.toolsets import FunctionToolset, ToolsetTool
from pydantic_core import SchemaValidator, core_schema

from pydantic_ai_dapr.durability import DaprDurability
from pydantic_ai_dapr.host import AttemptHook, Envelope, OperationBody, OperationHost, opened
from pydantic_ai_dapr.remote_tools import checked_size, tool_activity

Deps = TypeVar("Deps")


class ToolHost(Generic[Deps]):
    """Each tool is an activity of its own name, so that an access policy can allow it by itself.

    The sidecar has proven who calls, and that its policy allows it, before the tool is executed; what the caller sent,
    its run id and dependencies included, is its own word. Arguments are validated here, and the tool finds its
    RunContext, `deps` of `deps_type`, and `current_operation()` with the caller's idempotency key. A second delivery
    joins the running execution. The sidecar is found at `host` and `port` (default: Dapr's environment variables);
    `api_token` is its API token, `concurrency` calls are executed at a time, and `on_attempt` hears of each.
    """

    def __init__(
        self,
        toolset: FunctionToolset[Deps],
        *,
        deps_type: type[Deps] | None = None,
        host: str | None = None,
        port: int | str | None = None,
        api_token: str | None = None,
        concurrency: int = 100,
        on_attempt: AttemptHook | None = None,
    ) -> None:
        self._tools = {tool_activity(toolset.id, name): name for name in toolset.tools}
        self._address = (host or "127.0.0.1", str(port or settings.DAPR_GRPC_PORT))
        self._api_token = api_token or os.environ.get("DAPR_API_TOKEN")
        self._concurrency, self._on_attempt = concurrency, on_attempt
        durability = DaprDurability(name="pydantic_ai_dapr.tool_host")
        # The agent never runs, and its model isn't there: it is what knows how a tool is called durably.
        agent = Agent[Any, str](
            "none:none",
            defer_model_check=True,
            deps_type=deps_type or type(None),
            toolsets=[_CheckedTools(toolset)],
            capabilities=[durability],
        )
        bound = DaprDurability.from_agent(agent)
        assert bound is not None
        self._body = bound.get_durable_operation_backend().tool_calls[str(toolset.id)]
        self._operations: OperationHost | None = None
        self._runtime: Any = None

    def start(self) -> None:
        """Connect to the sidecar, and execute calls until `shutdown`."""
        if self._api_token:
            setattr(settings, "DAPR_API_TOKEN", self._api_token)  # noqa: B010  # the SDK reads it there; untyped
        host, port = self._address
        self._runtime = WorkflowRuntime(
            host=host,
            port=port,
            maximum_concurrent_activity_work_items=self._concurrency,
            maximum_thread_pool_workers=self._concurrency + 8,
        )
        for name, activity in self.activities().items():
            self._runtime.register_activity(activity, name=name)
        self._runtime.start()

    def activities(self) -> dict[str, Callable[[Any, Envelope], Envelope]]:
        """What is registered with the sidecar: an activity for each tool, by its name."""
        self._operations = OperationHost(self._on_attempt)
        return {name: self._activity(self._operations, name, tool) for name, tool in self._tools.items()}

    def shutdown(self) -> None:
        """Stop executing calls; they are delivered again to another host, or to this one when it is back."""
        if self._operations is not None:
            # First, since the connection ends only when what runs has ended.
            self._operations.stop()
            self._operations = None
        if self._runtime is not None:
            self._runtime.shutdown()
            self._runtime = None

    def _activity(self, operations: OperationHost, name: str, tool: str) -> Callable[[Any, Envelope], Envelope]:
        body: OperationBody = self._body

        def activity(ctx: Any, payload: Envelope) -> Envelope:
            # The policy allowed the activity's name: that is the tool, whatever the caller wrote into its message.
            params = payload["params"] | {"name": tool}
            # Callers choose their ids. With a digest of what was asked none is given the answer to another's question.
            asked = hashlib.sha256(json.dumps([tool, params], sort_keys=True).encode()).hexdigest()[:16]
            operation = opened(f"{ctx.workflow_id}#{asked}", payload | {"kind": "tool", "name": tool})

            async def call() -> object:
                answer = await body(operation, params)
                checked_size(f"the answer of the tool {tool}", answer)
                return answer

            return operations.execute(operation, call, payload.get("trace"))

        activity.__name__ = name
        return activity


class _CheckedTools(FunctionToolset[Deps]):
    """The tools, with their arguments validated as part of each call: what is wrong with them is the call's answer."""

    def __init__(self, toolset: FunctionToolset[Deps]) -> None:
        tools = list(toolset.tools.values())
        super().__init__(tools, id=toolset.id, max_retries=toolset.max_retries, timeout=toolset.timeout)

    async def get_tools(self, ctx: RunContext[Deps]) -> dict[str, ToolsetTool[Deps]]:
        return {name: replace(tool, args_validator=_UNCHECKED) for name, tool in (await super().get_tools(ctx)).items()}

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Deps], tool: ToolsetTool[Deps]
    ) -> Any:
        args = self.tools[name].function_schema.validator.validate_python(tool_args)
        if tool.args_validator_func is not None:
            checked = tool.args_validator_func(ctx, **args)
            if inspect.isawaitable(checked):
                await checked
        return await super().call_tool(name, args, ctx, tool)


_UNCHECKED = SchemaValidator(core_schema.any_schema())


def access_policy(
    app_id: str, callers: Sequence[str], toolset: FunctionToolset[Any], tools: Sequence[str] | None = None
) -> dict[str, Any]:
    """The `WorkflowAccessPolicy` by which the app `app_id` lets `callers` execute `tools` of its toolset.

    Without `tools` it is every tool. It is loaded by the sidecars of `app_id` alone, and what no policy of theirs
    allows is denied. Raises ValueError for a tool that the toolset doesn't have.
    """
    unknown = set(tools or ()) - toolset.tools.keys()
    if unknown:
        raise ValueError(f"toolset {toolset.id!r} has no {sorted(unknown)}; it has {sorted(toolset.tools)}")
    if not callers or not all(callers):
        raise ValueError("an access policy needs the app id of at least one caller")
    chosen = toolset.tools if tools is None else tools
    activities = [{"name": tool_activity(toolset.id, name)} for name in chosen]
    rules = [{"callers": [{"appID": caller} for caller in callers], "activities": activities}] if activities else []
    return {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "WorkflowAccessPolicy",
        "metadata": {"name": f"{app_id}-{toolset.id}"},
        "scopes": [app_id],
        "spec": {"rules": rules},
    }
