"""Executes what agents ask for, whether the workflow around them is a runner's or one of your own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar, cast

from dapr.ext.workflow import WorkflowRuntime
from pydantic_ai import Agent
from pydantic_ai.external_events import ExternalEventWaiter, external_event_scope

from pydantic_ai_dapr.approvals import DurableEventWaiter
from pydantic_ai_dapr.confirmation import Task
from pydantic_ai_dapr.conversations import Conversations, Inputs
from pydantic_ai_dapr.driver import Place, drive
from pydantic_ai_dapr.durability import DaprDurability
from pydantic_ai_dapr.errors import DroppedWorkError
from pydantic_ai_dapr.host import AttemptHook, Deliveries, Envelope, LoopThread, OperationBody
from pydantic_ai_dapr.hosting import WorkflowHost, start_together
from pydantic_ai_dapr.journal import with_earlier
from pydantic_ai_dapr.run import WorkflowContext, current_run

Result = TypeVar("Result")
PLACE = "_pydantic_ai_dapr_place"
NEVER = sys.maxsize


class AgentHost(WorkflowHost):
    """Executes the operations of agents that have the capability `DaprDurability`."""

    durabilities: Sequence[DaprDurability] = ()
    _asking: LoopThread | None = None

    def register(self, runtime: Any) -> None:
        """Register the agents' activities."""
        assert self.deliveries is not None
        self._asking = LoopThread("pydantic-ai-dapr-questions")
        executor = _Executor(self.deliveries, Conversations(1024, self._model_inputs))
        for durability in self.durabilities:
            durability.bind_toolsets()
            backend = durability.get_durable_operation_backend()
            backend.executor = executor
            for tools in backend.remote_tools:
                tools.connect(self.client.hub)
            for name, activity in backend.activities.items():
                runtime.register_activity(activity, name=name)

    def shutdown(self) -> None:
        """Stop executing runs; they go on in another worker."""
        super().shutdown()
        if self._asking is not None:
            self._asking.stop()
            self._asking = None

    def waiting(self) -> AbstractContextManager[ExternalEventWaiter]:
        """Let what is awaited from outside be awaited durably."""
        asking = self._asking
        return external_event_scope(DurableEventWaiter(lambda ask: _running(asking).submit(ask)))

    async def _model_inputs(self, instance_id: str) -> Inputs:
        names = {name for one in self.durabilities for name in one.get_durable_operation_backend().model_activities}
        inputs: dict[int, dict[str, Any]] = {}
        for event in await asyncio.to_thread(lambda: with_earlier(self._history(instance_id), self.journal)):
            if event.type == "taskScheduled" and event.name in names and isinstance(event.input, dict):
                envelope = cast("dict[str, Any]", event.input)
                inputs[envelope["ordinal"]] = await asyncio.to_thread(self.journal.resolve, envelope["params"])
        return inputs


class DurableAgents(AgentHost):
    """Lets agents run inside workflows of your own, between your own activities and child workflows.

    `yield from agents.run(ctx, main)` has the guarantees of a runner: what an agent has completed there is not
    executed again, and an operation's key is the same at each attempt. Your own steps have Dapr's guarantees:
    `recover` issues again what agents have open, and nothing else. The history is not cut, so a run of hundreds of
    steps belongs into a `DaprWorkflowAgentRunner`, whose workflow yours may call. Arguments are those of the runner.

    Raises ValueError for an agent without the capability `DaprDurability`.
    """

    def __init__(
        self,
        agents: Sequence[Agent[Any, Any]],
        *,
        host: str | None = None,
        port: int | str | None = None,
        state_store: str | None = None,
        api_token: str | None = None,
        kept_runs: int = 256,
        on_attempt: AttemptHook | None = None,
    ) -> None:
        super().__init__(
            "durable-agents",
            host=host,
            port=port,
            state_store=state_store,
            api_token=api_token,
            kept_runs=kept_runs,
            on_attempt=on_attempt,
        )
        self.durabilities = [_durability(agent) for agent in agents]

    def start(self, runtime: WorkflowRuntime | None = None) -> None:
        """Execute runs until `shutdown`, on your runtime, which has your workflows and has not been started yet.

        Raises RuntimeError where this process hosts something on the same sidecar already: see `start_together`.
        """
        start_together([self], runtime)

    def run(
        self, ctx: WorkflowContext, main: Callable[[], Coroutine[Any, Any, Result]], *, run_id: str | None = None
    ) -> Generator[Any, Any, Result]:
        """Run `main()` durably as a part of the workflow; it may run agents, one by one or at the same time.

        `run_id` is what keys begin with (default: the workflow's instance id). What `main` raises is raised here.
        Such a workflow can't continue as new, which would use its keys a second time: RuntimeError.
        """
        logical = run_id or ctx.instance_id
        place = vars(ctx).setdefault(PLACE, Place())
        vars(ctx)["continue_as_new"] = _not_anew

        async def durably() -> Result:
            run = current_run.get()
            assert run is not None
            run.notes["run_id"] = logical
            with self.waiting():
                return await main()

        return (yield from drive(ctx, durably, self.kept, journal=self.journal, segment_answers=NEVER, place=place))


@dataclass(frozen=True)
class _Executor:
    """Where a host's activities are executed, and their messages made whole."""

    deliveries: Deliveries
    conversations: Conversations

    def handle(self, task: Task, delivered: Envelope, body: OperationBody) -> Envelope:
        return self.deliveries.handle(task, delivered, body)

    async def expand(self, instance_id: str, ordinal: int, wire: Envelope) -> Envelope:
        return await self.conversations.expand(instance_id, ordinal, wire)


def _durability(agent: Agent[Any, Any]) -> DaprDurability:
    found = DaprDurability.from_agent(agent)
    if found is None:
        raise ValueError(f"agent {agent.name!r} is not durable: give it capabilities=[DaprDurability()]")
    found.bind_toolsets()
    return found


def _not_anew(*_: object, **__: object) -> NoReturn:
    raise RuntimeError(
        "a workflow that runs agents can't continue as new: its operations would get the keys of earlier ones. "
        "Call the part that runs agents as a child workflow, each time with an instance id of its own"
    )


def _running(thread: LoopThread | None) -> LoopThread:
    if thread is None:
        raise DroppedWorkError
    return thread
