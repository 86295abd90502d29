"""`DaprWorkflowAgentRunner`: hosts an agent as a Dapr workflow."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, cast

from dapr.ext.workflow._durabletask.worker import VersionNotRegisteredException
from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_ai import Agent, AgentRetries
from pydantic_ai.capabilities.abstract import leaf_capabilities
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, UserContent
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import DeferredToolResults
from pydantic_ai.usage import RunUsage, UsageLimits
from pydantic_ai.workspaces import WorkspaceRef
from pydantic_core import to_jsonable_python

from pydantic_ai_dapr.agents import AgentHost
from pydantic_ai_dapr.client import run_input_of, workflow_name
from pydantic_ai_dapr.driver import SEGMENT_ANSWERS, KeptRuns, drive
from pydantic_ai_dapr.durability import DaprDurability
from pydantic_ai_dapr.export import Export
from pydantic_ai_dapr.host import AttemptHook
from pydantic_ai_dapr.hosting import CALL_SECONDS
from pydantic_ai_dapr.journal import Journal
from pydantic_ai_dapr.outputs import OutputCodec
from pydantic_ai_dapr.replaying import ReplayReport, replay
from pydantic_ai_dapr.run import current_run
from pydantic_ai_dapr.tracing import carried, continued
from pydantic_ai_dapr.types import (
    RunEvent,
    RunFailedError,
    RunInput,
    RunStatus,
    WorkflowUnavailableError,
)

log = logging.getLogger(__name__)

Deps = TypeVar("Deps")
Output = TypeVar("Output")
FOLLOW_SECONDS = 0.1
ASK_SECONDS = 10.0
"""How long one question for the end of a run may be open."""

_prompt: TypeAdapter[str | list[UserContent] | None] = TypeAdapter(str | list[UserContent] | None)
_usage = TypeAdapter(RunUsage)
_limits = TypeAdapter(UsageLimits)
_deferred = TypeAdapter(DeferredToolResults)


@dataclass(frozen=True)
class RunResult(Generic[Output]):
    """A completed run: its typed output, usage, and every message in order."""

    run_id: str
    output: Output
    usage: RunUsage
    messages: list[ModelMessage]

    @property
    def final_response(self) -> str:
        """The output as text."""
        return self.output if isinstance(self.output, str) else str(to_jsonable_python(self.output))

    @property
    def iterations(self) -> int:
        """How many model requests the run made."""
        return self.usage.requests


class RunHandle(Generic[Output]):
    """A run that was started: follow it, wait for it, answer it or end it, from this process or another."""

    def __init__(self, runner: DaprWorkflowAgentRunner[Any, Output], run_id: str) -> None:
        self._runner, self.run_id = runner, run_id

    def __str__(self) -> str:
        return self.run_id

    def status(self) -> RunStatus | None:
        """The run's state."""
        return self._runner.status(self.run_id)

    def result(self, timeout: float = 60.0) -> RunResult[Output]:
        """Wait for the result. Raises RunFailedError where the run ended without one, and TimeoutError."""
        return self._runner.wait(self.run_id, timeout)

    async def wait(self, timeout: float = 60.0) -> RunResult[Output]:  # noqa: ASYNC109  # as of `result`
        """As `result`, without blocking the event loop."""
        return await self._runner.wait_async(self.run_id, timeout)

    def events(self, poll_interval: float = FOLLOW_SECONDS) -> Iterator[RunEvent]:
        """What the run does, from its beginning to its end."""
        return self._runner.client.follow(self.run_id, poll_interval)

    def approve(self, tool_call_id: str, *, approved: bool = True, message: str | None = None) -> None:
        """Decide a tool call that waits for approval."""
        self._runner.client.approve(self.run_id, tool_call_id, approved=approved, message=message)

    def cancel(self) -> None:
        """End the run, and cancel the tools that it runs at this moment."""
        self._runner.client.terminate(self.run_id)


class DaprWorkflowAgentRunner(AgentHost, Generic[Deps, Output]):
    """Once `schedule` has returned, the run survives the loss of this process and goes on wherever a worker is.

    Every model request and tool call is an activity: one that completed is not executed again. `max_iterations`
    bounds the model requests of a run. An agent without the capability `DaprDurability` gets it. The sidecar is
    found at `host` and `port` (default: Dapr's environment variables); `api_token` is its API token, `state_store`
    the store for what is too large for a workflow's history (default: the only one that can hold workflows).
    `kept_runs` suspended runs are kept in memory, `concurrency` operations are executed at a time, and `on_attempt`
    hears of every execution. Runs stay with the `version` of the agent that they were started with, which a later
    deploy hosts among its `previous` ones; a worker that doesn't have it leaves such a run to those that do.
    """

    def __init__(
        self,
        agent: Agent[Deps, Output],
        *,
        name: str | None = None,
        host: str | None = None,
        port: int | str | None = None,
        max_iterations: int = 25,
        state_store: str | None = None,
        api_token: str | None = None,
        kept_runs: int = 256,
        concurrency: int = 100,
        on_attempt: AttemptHook | None = None,
        segment_answers: int = SEGMENT_ANSWERS,
        version: str = "",
        previous: Mapping[str, Agent[Deps, Output]] | None = None,
    ) -> None:
        chosen = name or agent.name
        if not chosen:
            raise ValueError("a durable agent needs a name, under which its runs are found again: pass name=…")
        super().__init__(
            chosen,
            host=host,
            port=port,
            state_store=state_store,
            api_token=api_token,
            kept_runs=kept_runs,
            concurrency=concurrency,
            on_attempt=on_attempt,
            segment_answers=segment_answers,
        )
        self.agent, self.max_iterations = agent, max_iterations
        self.version = version
        self._versions = {one: _version(chosen, one, old) for one, old in (previous or {}).items()}
        self._versions[version] = _version(chosen, version, agent)
        names = [one.durability.name for one in self._versions.values()]
        if len(set(names)) != len(names):
            raise ValueError(
                f"the versions {sorted(self._versions)} of {chosen} share the durable name {names[0]}; "
                "give each its own with DaprDurability(name=…)"
            )
        self.durabilities = [one.durability for one in self._versions.values()]
        self._durability = self._versions[version].durability
        self._outputs = OutputCodec(agent.output_type)

    def register(self, runtime: Any) -> None:
        """Register the agent's workflow and activities."""
        super().register(runtime)
        runtime.register_workflow(self._workflow(self.kept, self.journal), name=workflow_name(self.name))

    def schedule(
        self,
        prompt: str | Sequence[UserContent] | None = None,
        *,
        deps: Deps | None = None,
        message_history: Sequence[ModelMessage] | None = None,
        model: str | None = None,
        instructions: str | None = None,
        model_settings: ModelSettings | None = None,
        usage_limits: UsageLimits | None = None,
        deferred_tool_results: DeferredToolResults | None = None,
        conversation_id: str | None = None,
        metadata: dict[str, JsonValue] | None = None,
        usage: RunUsage | None = None,
        retries: int | AgentRetries | None = None,
        workspace: WorkspaceRef | Literal["new"] | None = None,
        run_timeout: float | None = None,
        run_id: str | None = None,
        timeout: float = 10.0,
    ) -> RunHandle[Output]:
        """Start a run and return its handle, within `timeout` seconds. The arguments are those of `Agent.run`.

        `model` is a model's name, or a key of the durability's `models`. `run_timeout` is what `Agent.run` calls
        `timeout`: so many seconds of the workflow's time after it has begun the run fails with RunTimedOut, wherever
        it is. Raises TypeError where an argument can't be carried, RunExistsError where the id is taken, and
        WorkflowUnavailableError where the sidecar does not answer: then whether the run started is unknown.
        """
        unique = run_id is None
        run_id = run_id or uuid.uuid4().hex
        run_input = _carried(
            run_id=run_id,
            prompt=_prompt.dump_python(
                prompt if prompt is None or isinstance(prompt, str) else list(prompt), mode="json"
            ),
            deps=self._durability.deps_codec().dump(deps),
            message_history=_dumped(ModelMessagesTypeAdapter, list(message_history) if message_history else None),
            model=model,
            instructions=instructions,
            model_settings=to_jsonable_python(model_settings) if model_settings else None,
            usage_limits=_dumped(_limits, usage_limits),
            deferred_tool_results=_dumped(_deferred, deferred_tool_results),
            conversation_id=conversation_id,
            metadata=metadata,
            usage=usage,
            retries=retries,
            workspace=workspace,
            timeout=run_timeout,
            version=self.version,
            trace=carried(),
        )
        self.client.start_new(run_id, run_input, timeout=timeout, unique=unique)
        return RunHandle(self, run_id)

    def handle(self, run_id: str) -> RunHandle[Output]:
        """The handle of a run that was started before, here or elsewhere."""
        return RunHandle(self, run_id)

    def status(self, run_id: str) -> RunStatus | None:
        """The run's state, or None where there is no such run."""
        return self.client.status(run_id)

    def wait(self, run_id: str, timeout: float = 60.0) -> RunResult[Output]:
        """The result of a run. Raises RunFailedError where it ended without one, and TimeoutError.

        A sidecar that doesn't answer for a while is asked again.
        """
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            with suppress(WorkflowUnavailableError):
                status = self.client.hub.end(run_id, min(left, ASK_SECONDS))
                if status is not None and status.is_terminal:
                    return self._end(status)
            time.sleep(FOLLOW_SECONDS)
        return self._at_last(run_id, timeout)

    async def wait_async(self, run_id: str, timeout: float = 60.0) -> RunResult[Output]:  # noqa: ASYNC109  # as `wait`
        """As `wait`, without blocking the event loop, or holding a thread for each run."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            with suppress(WorkflowUnavailableError):
                status = await self.client.hub.ended(run_id, min(left, ASK_SECONDS))
                if status is not None and status.is_terminal:
                    return await asyncio.to_thread(self._end, status)
            await asyncio.sleep(FOLLOW_SECONDS)
        return await asyncio.to_thread(self._at_last, run_id, timeout)

    def run_sync(
        self,
        user_message: str | Sequence[UserContent] | None = None,
        session_id: str | None = None,
        *,
        run_id: str | None = None,
        workflow_id: str | None = None,
        timeout: float = 300.0,
        **arguments: Any,
    ) -> RunResult[Output]:
        """Start a run and wait for its result. `session_id` is the conversation's id, `workflow_id` another name of
        `run_id`; the other arguments are those of `schedule`."""
        handle = self.schedule(user_message, conversation_id=session_id, run_id=run_id or workflow_id, **arguments)
        return handle.result(timeout)

    async def run(
        self,
        user_message: str | Sequence[UserContent] | None = None,
        session_id: str | None = None,
        *,
        run_id: str | None = None,
        workflow_id: str | None = None,
        timeout: float = 300.0,  # noqa: ASYNC109  # the same names as `run_sync`
        **arguments: Any,
    ) -> RunResult[Output]:
        """Start a run and wait for its result, without blocking the event loop."""
        handle = await asyncio.to_thread(
            lambda: self.schedule(user_message, conversation_id=session_id, run_id=run_id or workflow_id, **arguments)
        )
        return await handle.wait(timeout)

    async def run_async(
        self,
        user_message: str | Sequence[UserContent] | None = None,
        session_id: str | None = None,
        *,
        workflow_id: str | None = None,
        poll_interval: float = 0.5,
        **arguments: Any,
    ) -> AsyncIterator[dict[str, Any]]:
        """Start a run, and tell what it does until it has ended: `workflow_started`, operations, `workflow_completed`,
        `workflow_failed` or `workflow_terminated`."""
        handle = await asyncio.to_thread(
            lambda: self.schedule(user_message, conversation_id=session_id, run_id=workflow_id, **arguments)
        )
        run_id = handle.run_id
        yield {"type": "workflow_started", "workflow_id": run_id, "session_id": session_id}
        events = handle.events(poll_interval)
        while (event := await asyncio.to_thread(lambda: next(events, None))) is not None:
            told = {"workflow_id": run_id} | event.model_dump(mode="json", exclude_none=True)
            if event.type == "run_completed":
                result = self._result(
                    RunStatus(
                        run_id=run_id, status="completed", created_at=event.at, updated_at=event.at, output=event.output
                    )
                )
                told |= {
                    "final_response": result.final_response,
                    "iterations": result.iterations,
                    "status": "completed",
                }
            if event.type.startswith("run_"):
                told["type"] = "workflow_" + event.type.removeprefix("run_")
            yield told

    def get_workflow_status(self, workflow_id: str) -> dict[str, Any] | None:
        """The run's state as plain data, with the keys `workflow_id` and `last_updated_at` too."""
        status = self.status(workflow_id)
        if status is None:
            return None
        told = status.model_dump(mode="json")
        return told | {"workflow_id": told["run_id"], "last_updated_at": told["updated_at"]}

    def terminate_workflow(self, workflow_id: str) -> None:
        """End the run, and cancel the tools that it runs at this moment."""
        self.client.terminate(workflow_id)

    def purge_workflow(self, workflow_id: str) -> None:
        """Remove an ended run from the state store."""
        self.client.purge(workflow_id)

    def serve(
        self,
        *,
        port: int = 5001,
        host: str = "127.0.0.1",
        token: str | None = None,
        ssl_certfile: str | None = None,
        ssl_keyfile: str | None = None,
    ) -> None:
        """Execute runs, and take them over HTTP until the process is told to end: see `serving.http_api`.

        Beyond this machine it wants a token and TLS, else ValueError. Needs `pydantic-ai-dapr[serve]`.
        """
        import uvicorn

        from pydantic_ai_dapr.serving import check_exposure, http_api

        check_exposure(host, token, ssl_certfile)
        self.start()
        try:
            uvicorn.run(http_api(self, token), host=host, port=port, ssl_certfile=ssl_certfile, ssl_keyfile=ssl_keyfile)
        finally:
            self.shutdown()

    def replay(self, export: Export) -> ReplayReport:
        """Run this agent's code over a recorded history: it does the same, or the first difference is told.

        Needs no sidecar, asks no model and calls no tool. Raises ValueError where the history is another workflow's
        or version's, and PayloadLostError where the export lacks what it refers to.
        """
        if export.workflow != workflow_name(self.name):
            raise ValueError(f"run {export.instance_id} is of {export.workflow}, not of {workflow_name(self.name)}")
        started = next(event for event in export.events if event.type == "executionStarted").input
        version = started.get("version", "") if isinstance(started, dict) else ""
        if version not in self._versions:
            raise ValueError(f"run {export.instance_id} is of version {version!r}, not of {sorted(self._versions)}")
        self._versions[version].durability.bind_toolsets()
        kept, beside = KeptRuns(1), export.beside()
        try:
            workflow = self._workflow(kept, Journal(beside, lambda _: export.events))
            return replay(workflow, export, beside.resolve)
        finally:
            kept.clear()

    async def _agent_run(self, hosted: _Version[Deps, Output], run_input: RunInput) -> dict[str, Any]:
        """What the workflow runs: the agent, as it is."""
        run = current_run.get()
        assert run is not None
        run.notes["run_id"] = run_input.run_id
        with continued(run_input.trace), self.waiting():
            result = await hosted.agent.run(
                _prompt.validate_python(run_input.prompt),
                deps=cast("Deps", hosted.durability.deps_codec().load(run_input.deps)),
                message_history=_loaded(ModelMessagesTypeAdapter, run_input.message_history),
                model=run_input.model,
                instructions=run_input.instructions,
                model_settings=cast("ModelSettings | None", run_input.model_settings),
                usage_limits=_loaded(_limits, run_input.usage_limits) or UsageLimits(request_limit=self.max_iterations),
                deferred_tool_results=_loaded(_deferred, run_input.deferred_tool_results),
                conversation_id=run_input.conversation_id,
                metadata=run_input.metadata,
                usage=run_input.usage,
                retries=cast("int | AgentRetries | None", run_input.retries),
                workspace=run_input.workspace,
                timeout=run_input.timeout,
                capabilities=hosted.added or None,
                infer_name=False,
            )
        run.clock.set(result.all_messages())
        return run.offload(
            {
                **OutputCodec(hosted.agent.output_type).dump(result.output),
                "usage": to_jsonable_python(result.usage),
                "messages": ModelMessagesTypeAdapter.dump_python(result.all_messages(), mode="json"),
            }
        )

    def _workflow(self, kept: KeptRuns, journal: Journal) -> Any:
        def workflow(ctx: Any, start: dict[str, Any]) -> Generator[Any, Any, Any]:
            hosted = self._versions.get(start.get("version", ""))
            if hosted is None:
                log.error(
                    "run %s is of version %r of %s, this worker has %s: it waits for one that fits",
                    *(ctx.instance_id, start.get("version", ""), self.name, sorted(self._versions)),
                )
                raise VersionNotRegisteredException

            async def main() -> dict[str, Any]:
                return await self._agent_run(hosted, run_input_of(start, journal))

            if kept is self.kept:
                self.catch_up(ctx, lambda fresh: self._workflow(fresh, self.journal))
            return (
                yield from drive(ctx, main, kept, start=start, journal=journal, segment_answers=self._segment_answers)
            )

        return workflow

    def result_of(self, output: Any, run_id: str = "") -> RunResult[Output]:
        """The result that a completed run's workflow has as its output."""
        return RunResult(
            run_id=run_id,
            output=self._outputs.load(output),
            usage=_usage.validate_python(output["usage"]),
            messages=ModelMessagesTypeAdapter.validate_python(output["messages"]),
        )

    def _at_last(self, run_id: str, timeout: float) -> RunResult[Output]:
        """The result if it is there when the time is over. Raises TimeoutError otherwise, with what is known."""
        status, silent = None, ""
        try:
            status = self.client.hub.status(run_id, CALL_SECONDS)
        except WorkflowUnavailableError as error:
            silent = f" ({error})"
        if status is not None and status.is_terminal:
            return self._end(status)
        raise TimeoutError(_not_yet(run_id, status, timeout) + silent)

    def _end(self, status: RunStatus) -> RunResult[Output]:
        return self._result(status.model_copy(update={"output": self.client.payloads.resolve(status.output)}))

    def _result(self, status: RunStatus) -> RunResult[Output]:
        if status.status != "completed" or not isinstance(status.output, dict):
            raise RunFailedError(status)
        return self.result_of(status.output, status.run_id)


@dataclass(frozen=True)
class _Version(Generic[Deps, Output]):
    """An agent as runs were started with it; `added` is what it lacked."""

    agent: Agent[Deps, Output]
    durability: DaprDurability
    added: list[Any]


def _version(name: str, version: str, agent: Agent[Deps, Output]) -> _Version[Deps, Output]:
    found = DaprDurability.from_agent(agent)
    if found is not None:
        return _Version(agent, found, [])
    added = DaprDurability(name=f"{name}@{version}" if version else name).for_agent(agent)
    durability = next(one for one in leaf_capabilities(added) if isinstance(one, DaprDurability))
    return _Version(agent, durability, [added])


def _carried(**arguments: Any) -> RunInput:
    """What a run is started with. Raises TypeError, naming them, where arguments can't be carried."""
    try:
        return RunInput(**arguments)
    except ValidationError as error:
        names = sorted({str(one["loc"][0]) for one in error.errors()})
        raise TypeError(
            f"{', '.join(names)} can't be carried to a worker, which may be another process: {error}. Give the run "
            "data, and what is code or alive to the agent that the worker hosts"
        ) from error


def _dumped(adapter: TypeAdapter[Any], value: Any) -> Any:
    return None if value is None else adapter.dump_python(value, mode="json")


def _loaded(adapter: TypeAdapter[Any], value: Any) -> Any:
    return None if value is None else adapter.validate_python(value)


def _not_yet(run_id: str, status: RunStatus | None, timeout: float) -> str:
    text = (
        f"run {run_id} did not end within {timeout:g} s; it was {status.status if status else 'unknown'} when last seen"
    )
    if status is not None and status.status == "stalled":
        text += ". A stalled run waits for a worker whose code fits its history, or a larger --max-body-size"
    return text
