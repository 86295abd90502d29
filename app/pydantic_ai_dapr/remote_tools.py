"""Tools that another app executes, under its own identity, if its `WorkflowAccessPolicy` lets this app.

A call to another app may come to an end that its caller's history can't hold: a sidecar that signs histories (Dapr
1.18) takes a denied call for tampering, and fails the workflow that made it. So the run never makes the call itself.
Each call is an activity of the run like any other, whose execution starts a workflow for this one call and waits for
its end; what that workflow's end does not say, the next attempt finds out with another one.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from dapr.ext.workflow import when_any  # pyright: ignore[reportUnknownVariableType]
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.tools import RunContext, Tool, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, FunctionToolset, ToolsetTool, WrapperToolset

from pydantic_ai_dapr.errors import ErrorValue, ToolDeniedError, judge, rebuild
from pydantic_ai_dapr.host import envelope
from pydantic_ai_dapr.payloads import PayloadTooLargeError
from pydantic_ai_dapr.progress import current_progress
from pydantic_ai_dapr.run import current_run
from pydantic_ai_dapr.tracing import carried, remark
from pydantic_ai_dapr.types import RECOVER, Operation, RunExistsError, RunStatus, WorkflowUnavailableError

Deps = TypeVar("Deps")
log = logging.getLogger(__name__)

REMOTE_CALL = "pydantic_ai_dapr.remote_call"
"""The workflow that makes one call to another app."""
CALL_SECONDS, WAIT_SECONDS, PAUSE_SECONDS = 5.0, 30.0, 0.5
CALL_BYTES = 900_000
"""A question or answer is twice in its workflow's history, which must stay below 4 MiB (Dapr's default)."""
_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Denial:
    """A call that another app's access policy has denied. `at` is in Unix seconds.

    `caller` is the app id that this app's sidecar says it has, and for which it holds the certificate that was shown.
    """

    run_id: str
    instance_id: str
    ordinal: int
    key: str
    attempt: int
    toolset: str
    tool: str
    app_id: str
    caller: str
    at: float


DenialHook = Callable[[Denial], None]


class CallHub(Protocol):
    """What a call needs of the sidecar; `taskhub.TaskHub` is one. Raises WorkflowUnavailableError."""

    def start(self, instance_id: str, workflow: str, value: Any, timeout: float) -> None: ...
    def status(self, instance_id: str, timeout: float) -> RunStatus | None: ...
    async def ended(self, instance_id: str, seconds: float) -> RunStatus | None: ...
    def raise_event(self, instance_id: str, name: str, value: Any, timeout: float) -> None: ...
    def purge(self, instance_id: str, timeout: float) -> None: ...
    def app_id(self, timeout: float) -> str: ...


def tool_activity(toolset_id: str | None, tool: str) -> str:
    """The name of a hosted tool's activity: the one that a policy allows. Raises ValueError for an unfit name."""
    if not toolset_id:
        raise ValueError("a toolset of another app needs an id, of which its activities are named: pass id=…")
    for what, name in (("toolset", toolset_id), ("tool", tool)):
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"the {what} name {name!r} can't stand in an access policy; use letters, digits, '_' and '-'"
            )
    return f"tool.{toolset_id}.{tool}"


def checked_size(what: str, value: Any) -> None:
    """Raises PayloadTooLargeError for what a call to another app can't carry."""
    size = len(json.dumps(value))
    if size > CALL_BYTES:
        raise PayloadTooLargeError(
            f"{what} has {size} bytes, more than the {CALL_BYTES} that can go to another app and back; "
            "keep such data in a store that both apps reach, and pass a reference to it"
        )


def remote_call() -> Callable[..., Generator[Any, Any, Any]]:
    """The workflow of one call: its result is the activity's. `recover` makes it ask again."""

    # A function of its own for each runtime: the SDK marks those that it registers.
    def workflow(ctx: Any, call: dict[str, Any]) -> Generator[Any, Any, Any]:
        asked: list[Any] = []
        while True:
            asked.append(ctx.call_activity(call["activity"], input=call["payload"], app_id=call["app_id"]))
            again = ctx.wait_for_external_event(RECOVER)
            first = yield when_any([*asked, again])
            if first is not again:
                return first.get_result()

    return workflow


class RemoteTools(FunctionToolset[Deps]):
    """The tools as the agent sees them: names and schemas. Their execution is forwarded to the app that has them."""

    def __init__(self, toolset: FunctionToolset[Deps], app_id: str, on_denied: DenialHook | None):
        tools = [_without_code(tool) for tool in toolset.tools.values()]
        super().__init__(tools, id=toolset.id, max_retries=toolset.max_retries)
        self._app_id, self._on_denied = app_id, on_denied
        self._activities = {name: tool_activity(toolset.id, name) for name in self.tools}
        self._hub: CallHub | None = None
        self._open: set[str] = set()
        self._purges: set[asyncio.Future[None]] = set()

    def connect(self, hub: CallHub) -> None:
        """Make calls through this sidecar."""
        self._hub = hub

    def delivered(self, operation: Operation) -> None:
        """Where the operation is being executed already, it is issued again because its wake-ups may be lost."""
        instance_id = call_id(operation)
        if instance_id in self._open and self._hub is not None:
            with suppress(WorkflowUnavailableError):
                _ask_again(self._hub, instance_id)

    async def forward(self, operation: Operation, params: Any) -> object:
        """The tool's answer. Raises what the tool raised, ToolDeniedError, and ConnectionError for a lost call."""
        hub, instance_id = self._hub, call_id(operation)
        assert hub is not None
        if operation.name not in self._activities:
            raise ValueError(
                f"there is no tool {operation.name!r} in app {self._app_id!r}, which has {sorted(self._activities)}: "
                "give it its other name with the toolset's prefixed() or renamed(), not in its prepare function"
            )
        call = {
            "activity": self._activities[operation.name],
            "app_id": self._app_id,
            "payload": envelope(operation, params, trace=carried()),
        }
        checked_size(f"what the tool {operation.name} is called with", call)
        self._open.add(instance_id)
        try:
            status = await _to_the_end(hub, instance_id, call)
        finally:
            self._open.discard(instance_id)
        self._forget(hub, instance_id)
        if status.status == "completed" and isinstance(status.output, dict):
            remark(status.output.get("span", {}))  # type: ignore[arg-type]
            current_progress().relay(status.output)
            if "ok" in status.output:
                return status.output["ok"]
            raise _raised_elsewhere(ErrorValue.model_validate(status.output["err"]))
        if _was_denied(status):
            await self._deny(hub, operation)
        if _was_lost(status):
            raise ConnectionError(f"the call of {operation.name} in app {self._app_id} was lost: {status.error}")
        raise RuntimeError(f"the call of {operation.name} in app {self._app_id} is {status.status}: {status.error}")

    def _forget(self, hub: CallHub, instance_id: str) -> None:
        def purge() -> None:
            with suppress(WorkflowUnavailableError, ValueError):  # the sidecar is away, or the connection closed
                hub.purge(instance_id, CALL_SECONDS)

        purging = asyncio.get_running_loop().run_in_executor(None, purge)
        self._purges.add(purging)
        purging.add_done_callback(self._purges.discard)

    async def _deny(self, hub: CallHub, operation: Operation) -> None:
        try:
            caller = await asyncio.to_thread(hub.app_id, CALL_SECONDS)
        except WorkflowUnavailableError:
            caller = "unknown"
        log.warning(
            "run %s: app %r denied app %r the tool %r of toolset %r (operation %s)",
            operation.run_id,
            self._app_id,
            caller,
            operation.name,
            self.id,
            operation.key,
        )
        if self._on_denied is not None:
            self._on_denied(
                Denial(
                    run_id=operation.run_id,
                    instance_id=operation.instance_id,
                    ordinal=operation.ordinal,
                    key=operation.key,
                    attempt=operation.attempt,
                    toolset=str(self.id),
                    tool=operation.name,
                    app_id=self._app_id,
                    caller=caller,
                    at=time.time(),
                )
            )
        raise ToolDeniedError(f"The access policy of app {self._app_id!r} denies the tool {operation.name!r}.")


@dataclass
class RemoteToolset(WrapperToolset[Deps]):
    """Tools that the app `app_id` hosts with a `ToolHost`; for the agent they are as its own, in durable runs only.

    Given is the toolset itself, of which names, schemas and settings count; where it isn't at hand, `declared` makes
    one of definitions. A call that the app's access policy denies is never tried again: with `denied="model"` the
    model is told so, with `"raise"` the run fails with `ToolDeniedError`. Either way the run's history has it, it is
    logged, and `on_denied` hears of it.
    """

    wrapped: AbstractToolset[Deps]
    app_id: str
    denied: Literal["model", "raise"] = "model"
    on_denied: DenialHook | None = None

    def __post_init__(self) -> None:
        given = self.wrapped
        if isinstance(given, FunctionToolset) and not isinstance(given, RemoteTools):
            self.wrapped = RemoteTools(given, self.app_id, self.on_denied)

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Deps], tool: ToolsetTool[Deps]
    ) -> Any:
        if current_run.get() is None:
            raise RuntimeError(
                f"the tool {name!r} is hosted by the app {self.app_id!r} and can be called in durable runs only; "
                "run the agent with DaprWorkflowAgentRunner"
            )
        try:
            return await super().call_tool(name, tool_args, ctx, tool)
        except ToolDeniedError as error:
            if self.denied == "raise":
                raise
            raise ToolFailed(str(error)) from error


def call_id(operation: Operation) -> str:
    """The instance id of the workflow that makes an operation's call."""
    return f"{operation.instance_id}.{operation.ordinal}.{operation.attempt}.remote"


def declared(definitions: Sequence[ToolDefinition], *, id: str) -> FunctionToolset[Any]:
    """A toolset of tools whose code is elsewhere, to be wrapped in a `RemoteToolset`."""
    return FunctionToolset([_declared(definition) for definition in definitions], id=id)


def _declared(definition: ToolDefinition) -> Tool[Any]:
    def elsewhere(**arguments: Any) -> None:
        raise RuntimeError(f"the code of {definition.name} isn't here; wrap its toolset in a RemoteToolset")

    return Tool.from_schema(
        elsewhere,
        name=definition.name,
        description=definition.description,
        json_schema=definition.parameters_json_schema,
        sequential=definition.sequential,
    )


def _without_code(tool: Tool[Any]) -> Tool[Any]:
    """The tool with all its settings; arguments are taken as they are, because who executes it checks them."""
    bare = copy.copy(tool)
    bare.function_schema = _declared(tool.tool_def).function_schema
    bare.args_validator = None
    return bare


async def _to_the_end(hub: CallHub, instance_id: str, call: dict[str, Any]) -> RunStatus:
    """The end of the call's workflow, however long it takes and whoever started it."""
    begun = False
    while True:
        try:
            if not begun:
                await asyncio.to_thread(_begin, hub, instance_id, call)
                begun = True
            status = await hub.ended(instance_id, WAIT_SECONDS)
            if status is not None and status.is_terminal:
                return status
            begun = status is not None
        except WorkflowUnavailableError as error:
            log.info("call %s: waiting on: %s", instance_id, error)
            await asyncio.sleep(PAUSE_SECONDS)


def _begin(hub: CallHub, instance_id: str, call: dict[str, Any]) -> None:
    try:
        hub.start(instance_id, REMOTE_CALL, call, CALL_SECONDS)
    except RunExistsError:
        # Whoever started it is gone, and perhaps its wake-ups with them.
        status = hub.status(instance_id, CALL_SECONDS)
        if status is not None and not status.is_terminal:
            _ask_again(hub, instance_id)


def _ask_again(hub: CallHub, instance_id: str) -> None:
    hub.raise_event(instance_id, RECOVER, uuid.uuid4().hex, CALL_SECONDS)


def _raised_elsewhere(value: ErrorValue) -> Exception:
    error = rebuild(value)
    judge(error, retryable=value.retryable, retry_after=value.retry_after)
    return error


_TAMPERED = "DAPR_WORKFLOW_HISTORY_TAMPERED"


def _was_denied(status: RunStatus) -> bool:
    """As the sidecar says it, and as it says it where it signs histories: its own denial then lacks a signature."""
    error = status.error
    if error is None:
        return False
    return "denied by workflow access policy" in error.message or (
        error.type == _TAMPERED and "missing required attestation" in error.message
    )


def _was_lost(status: RunStatus) -> bool:
    """The answer came when the turn that asked for it had been lost with its sidecar."""
    return status.error is not None and status.error.type == _TAMPERED
