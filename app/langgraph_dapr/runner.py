"""`DaprWorkflowGraphRunner`: hosts a LangGraph graph as a Dapr workflow."""

# LangGraph's generic classes are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Generator
from datetime import UTC, datetime
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Interrupt
from langsmith import tracing_context
from pydantic_ai_dapr import HistoryEvent, RunFailedError, RunStatus, WorkflowUnavailableError
from pydantic_ai_dapr.client import PAYLOAD
from pydantic_ai_dapr.driver import SEGMENT_ANSWERS, KeptRuns
from pydantic_ai_dapr.host import AttemptHook, Envelope, OperationBody
from pydantic_ai_dapr.hosting import WorkflowHost
from pydantic_ai_dapr.run import current_run

from langgraph_dapr.codec import Codec, serializer_for
from langgraph_dapr.nodes import DurableGraph, resume_event
from langgraph_dapr.past import is_idle, pending, replay
from langgraph_dapr.types import Checkpoint, GraphInput, GraphState, PendingInterrupt

START_SECONDS = 10.0
UNAVAILABLE_SECONDS = 10.0
_CARRIED = frozenset({"configurable", "metadata", "tags", "recursion_limit", "max_concurrency", "run_name"})


class DaprWorkflowGraphRunner(WorkflowHost):
    """Once `schedule` has returned, the run survives the loss of this process and goes on wherever a worker is.

    Every node is an activity: one that completed is not executed again, and one that was being executed when its
    worker died may be, with the same idempotency key (`current_operation().key`). A node's own retry policy decides
    when it is tried again; without one it is where its error may pass, as `Retry()` says. The nodes of a subgraph
    that is a node are activities of their own.

    What lies between the nodes runs in the workflow, again at every replay: reducers, and the functions of
    conditional edges, synchronous or not. They must be deterministic, and do no I/O.

    A checkpointer of the graph's is not used, for the workflow's history has all that it would hold; its serde is.
    `max_steps` is the recursion limit of a run. The other arguments are those of `WorkflowHost`.
    """

    def __init__(
        self,
        graph: CompiledStateGraph[Any, Any, Any, Any],
        *,
        name: str | None = None,
        host: str | None = None,
        port: int | str | None = None,
        max_steps: int = 100,
        state_store: str | None = None,
        api_token: str | None = None,
        kept_runs: int = 256,
        concurrency: int = 100,
        on_attempt: AttemptHook | None = None,
        segment_answers: int = SEGMENT_ANSWERS,
    ) -> None:
        if not isinstance(graph, CompiledStateGraph):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a durable graph is made with StateGraph(…).compile(), not {type(graph).__name__}")
        if not name:
            raise ValueError("a durable graph needs a name, under which its runs are found again: pass name=…")
        super().__init__(
            name,
            host=host,
            port=port,
            state_store=state_store,
            api_token=api_token,
            kept_runs=kept_runs,
            concurrency=concurrency,
            on_attempt=on_attempt,
            segment_answers=segment_answers,
        )
        self.graph, self.max_steps = graph, max_steps
        saver: Any = graph.checkpointer
        context: list[Any] = [graph.context_schema] if graph.context_schema else []
        serde = saver.serde if isinstance(saver, BaseCheckpointSaver) else serializer_for([*_schemas(graph), *context])
        self._codec = Codec(serde)
        self._durable = DurableGraph(graph, name, self._codec)
        self._workflow_name = f"langgraph_dapr.{name}"

    def schedule(
        self,
        input: Any,
        thread_id: str | None = None,
        config: RunnableConfig | None = None,
        workflow_id: str | None = None,
        *,
        context: Any = None,
        timeout: float = START_SECONDS,
    ) -> str:
        """Start a run and return its id, within `timeout` seconds. The arguments are those of `graph.invoke`.

        `thread_id` is what nodes find in their configuration (default: the run's id). Raises TypeError where an
        argument can't be carried, RunExistsError where the id is taken, and WorkflowUnavailableError where the sidecar
        does not answer: then whether the run started is unknown.
        """
        run_id = workflow_id or uuid.uuid4().hex
        given = GraphInput(
            run_id=run_id,
            input=self._codec.dump(input),
            config=self._codec.dump(self._config(config or {}, thread_id or run_id)),
            context=self._codec.dump(context),
        ).model_dump(mode="json")
        packed = self.client.payloads.offload(run_id, given)
        start = given if packed is given else {"run_id": run_id, PAYLOAD: packed}
        self.client.hub.start(run_id, self._workflow_name, start, timeout)
        return run_id

    def wait(self, workflow_id: str, timeout: float | None = None, poll_interval: float = 0.5) -> dict[str, Any]:
        """The output of a run, once it has ended. Raises RunFailedError where it ended without one, and TimeoutError.

        A sidecar that does not answer is asked for 10 seconds again, then WorkflowUnavailableError is raised.
        Intervals are in seconds.
        """
        return self._wait(workflow_id, timeout, poll_interval, lambda: None)

    def invoke(
        self,
        input: Any,
        thread_id: str | None = None,
        config: RunnableConfig | None = None,
        workflow_id: str | None = None,
        poll_interval: float = 0.5,
        timeout: float | None = None,
        *,
        context: Any = None,
    ) -> dict[str, Any]:
        """Start a run and wait for its output.

        Where the run waits for answers and for nothing else, this returns as `graph.invoke` does: the state's values,
        and under `__interrupt__` what is asked. Answer with `resume`, and get the output with `wait`. Raises as
        `schedule` and `wait` do.
        """
        run_id = self.schedule(input, thread_id, config, workflow_id, context=context)

        def interrupted() -> dict[str, Any] | None:
            if not is_idle(history := self.client.history(run_id)) or not (asked := pending(history, self._codec)):
                return None
            values = self._checkpoints(run_id, history)[-1].values
            return values | {"__interrupt__": [Interrupt(one.value, one.id) for one in asked]}

        return self._wait(run_id, timeout, poll_interval, interrupted)

    async def run_async(
        self,
        input: Any,
        thread_id: str | None = None,
        config: RunnableConfig | None = None,
        workflow_id: str | None = None,
        poll_interval: float = 0.5,
        *,
        context: Any = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """Start a run, and tell what it does until it has ended.

        The types of events are `workflow_started`, `workflow_status_changed`, `node_started`, `node_completed`,
        `node_failed` (an attempt), `workflow_interrupted`, and at last `workflow_completed` with `output`, or
        `workflow_failed` or `workflow_terminated` with `error`.
        """
        run_id = await asyncio.to_thread(lambda: self.schedule(input, thread_id, config, workflow_id, context=context))
        yield {"type": "workflow_started", "workflow_id": run_id, "thread_id": thread_id or run_id}
        events = self.client.follow(run_id, poll_interval)
        status = "pending"
        while (event := await asyncio.to_thread(lambda: next(events, None))) is not None:
            told = {"workflow_id": run_id} | event.model_dump(mode="json", exclude_none=True, exclude={"output"})
            verb = event.type.split("_")[1]
            now = verb if event.type.startswith("run_") else "running"
            if now != status:
                status = now
                yield {"type": "workflow_status_changed", "workflow_id": run_id, "status": status}
            if event.type.startswith("run_"):
                output = {"output": self._codec.load(event.output)} if verb == "completed" else {}
                yield told | {"type": f"workflow_{verb}", "status": status} | output
                return
            answer = cast("dict[str, Any]", event.output or {})
            if "interrupts" in answer:
                yield told | {"type": "workflow_interrupted", "interrupts": self._codec.load(answer["interrupts"])}
            else:
                output = {"output": self._codec.load(answer["returned"])} if "returned" in answer else {}
                yield told | {"type": f"node_{verb}"} | output

    def resume(self, workflow_id: str, value: Any = None) -> None:
        """Answer what the run asks, for good: the first answer counts, and survives whatever happens to processes.

        Where more than one interrupt is pending, `value` is a dict of answers by the interrupts' ids. Raises ValueError
        where the run waits for no such answer, and WorkflowUnavailableError where the sidecar does not take it, as it
        does while no worker is connected: to answer again is then harmless.
        """
        asked = [one.id for one in self.interrupts(workflow_id)]
        by_id = (
            cast("dict[str, Any]", value) if isinstance(value, dict) and value and value.keys() <= set(asked) else None
        )
        if by_id is None and len(asked) != 1:
            what = f"answers by id to some of {asked}" if asked else "no answer"
            raise ValueError(f"run {workflow_id} waits for {what}")
        for interrupt_id, answer in (by_id or {asked[0]: value}).items():
            packed = self.client.payloads.offload(workflow_id, self._codec.dump(answer))
            self.client.hub.raise_event(workflow_id, resume_event(interrupt_id), packed, START_SECONDS)

    def interrupts(self, workflow_id: str) -> list[PendingInterrupt]:
        """What the run asks and nobody has answered."""
        status = self.client.status(workflow_id, payloads=False)
        if status is None or status.is_terminal:
            return []
        return pending(self.client.history(workflow_id), self._codec)

    def checkpoints(self, workflow_id: str) -> list[Checkpoint]:
        """The state after each step, from the input on, made from the run's history: nothing is executed.

        Raises LookupError where there is no such run, and ValueError where another graph has made that history.
        """
        if self.client.status(workflow_id, payloads=False) is None:
            raise LookupError(f"there is no run {workflow_id}")
        return self._checkpoints(workflow_id, self.client.history(workflow_id))

    def get_state(self, workflow_id: str) -> GraphState | None:
        """The run as it is, or None where there is no such run."""
        status = self.client.status(workflow_id)
        if status is None:
            return None
        history = self.client.history(workflow_id)
        checkpoints = self._checkpoints(workflow_id, history)
        asked = () if status.is_terminal else tuple(pending(history, self._codec))
        return GraphState(status, checkpoints[-1] if checkpoints else None, asked)

    def get_workflow_status(self, workflow_id: str) -> dict[str, Any] | None:
        """The run's state as plain data."""
        status = self.client.status(workflow_id)
        return status.model_dump(mode="json") if status else None

    def terminate_workflow(self, workflow_id: str) -> None:
        """End the run, and cancel the nodes that it executes at this moment."""
        self.client.terminate(workflow_id)

    def purge_workflow(self, workflow_id: str) -> None:
        """Remove an ended run from the state store."""
        self.client.purge(workflow_id)

    def register(self, runtime: Any) -> None:
        """Register the graph's workflow and activities."""
        runtime.register_workflow(self._workflow(self.kept), name=self._workflow_name)
        for activity, function in self.activities().items():
            runtime.register_activity(function, name=activity)

    def activities(self) -> dict[str, Callable[[Any, Envelope], Envelope]]:
        """The activities by their names: one for each node, and one for breakpoints."""
        bodies: dict[str, OperationBody] = {name: node.execute for name, node in self._durable.nodes.items()}
        bodies[self._durable.breakpoint_activity] = self._durable.breakpoint

        def activity(body: OperationBody) -> Callable[[Any, Envelope], Envelope]:
            return lambda ctx, payload: self.deliver(ctx, payload, body)

        return {name: activity(body) for name, body in bodies.items()}

    def _workflow(self, kept: KeptRuns) -> Callable[[Any, dict[str, Any]], Generator[Any, Any, Any]]:
        def workflow(ctx: Any, start: dict[str, Any]) -> Generator[Any, Any, Any]:
            async def main() -> Any:
                run = current_run.get()
                assert run is not None
                return run.offload(self._codec.dump(await self._run_graph(self._given(start, run.resolve), None)))

            if kept is self.kept:
                self.catch_up(ctx, self._workflow)
            return (yield from self.drive(ctx, start, main, kept))

        return workflow

    async def _run_graph(self, given: GraphInput, heard: Callable[[Any], None] | None) -> Any:
        run = current_run.get()
        assert run is not None
        run.notes |= {"run_id": given.run_id, "context": given.context}
        load = self._codec.load
        # Spans of the graph itself would be repeated at each replay; those of its nodes are made where they run.
        with tracing_context(enabled=False):
            return await self._durable.run(load(given.input), load(given.config), load(given.context), heard)

    def _checkpoints(self, run_id: str, history: list[HistoryEvent]) -> list[Checkpoint]:
        found: list[Checkpoint] = []

        def heard(chunk: dict[str, Any]) -> None:
            run = current_run.get()
            assert run is not None
            at = datetime.fromtimestamp(run.now(), UTC)
            found.append(Checkpoint(chunk["metadata"]["step"], chunk["values"], tuple(chunk["next"]), at))

        started = next((event.input for event in history if event.type == "executionStarted"), None)
        if isinstance(started, dict):
            given = self._given(started, self.client.payloads.resolve)
            replay(run_id, lambda: self._run_graph(given, heard), history, self.client.payloads)
        return found

    def _given(self, start: dict[str, Any], resolve: Callable[[Any], Any]) -> GraphInput:
        value = resolve(start[PAYLOAD]) if PAYLOAD in start else start
        return GraphInput.model_validate({key: one for key, one in value.items() if key != "continued"})

    def _config(self, config: RunnableConfig, thread_id: str) -> dict[str, Any]:
        if unknown := config.keys() - _CARRIED:
            raise TypeError(
                f"{sorted(unknown)} of a configuration can't be carried to a worker; give callbacks to the graph's "
                "models and tools themselves"
            )
        configurable = {"thread_id": thread_id} | config.get("configurable", {})
        return {"recursion_limit": self.max_steps} | config | {"configurable": configurable}

    def _wait(
        self,
        run_id: str,
        timeout: float | None,
        poll_interval: float,
        early: Callable[[], dict[str, Any] | None],
    ) -> dict[str, Any]:
        answered = began = time.monotonic()
        seen = "unknown"
        while True:
            try:
                status = self.client.status(run_id)
                if status is not None and status.is_terminal:
                    return self._output(status)
                if (found := early()) is not None:
                    return found
                answered, seen = time.monotonic(), status.status if status else seen
            except WorkflowUnavailableError:  # also where a state is read that is being written
                if time.monotonic() - answered > UNAVAILABLE_SECONDS:
                    raise
            if timeout is not None and time.monotonic() - began > timeout:
                raise TimeoutError(f"run {run_id} did not end within {timeout:g} s; it was {seen} when last seen")
            time.sleep(poll_interval)

    def _output(self, status: RunStatus) -> dict[str, Any]:
        if status.status != "completed":
            raise RunFailedError(status)
        return self._codec.load(status.output)


def _schemas(graph: Any) -> list[Any]:
    """The schemas of a graph and of its subgraphs."""
    subgraphs = [one for _, one in graph.get_subgraphs(recurse=True) if isinstance(one, CompiledStateGraph)]
    return [schema for one in (graph, *subgraphs) for schema in one.builder.schemas]
