"""Hosts workflows in this process: what a runner needs beside the code that it runs."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any

from dapr.conf import settings
from dapr.ext.workflow import WorkflowRuntime
from dapr.ext.workflow._durabletask.worker import VersionNotRegisteredException

from pydantic_ai_dapr.approvals import ASK_ACTIVITY
from pydantic_ai_dapr.client import AgentRunClient
from pydantic_ai_dapr.confirmation import Asked, Confirmations, Task
from pydantic_ai_dapr.driver import SEGMENT_ANSWERS, KeptRuns, drive
from pydantic_ai_dapr.errors import DroppedWorkError
from pydantic_ai_dapr.export import Export
from pydantic_ai_dapr.host import AttemptHook, Deliveries, Envelope, OperationBody, OperationHost
from pydantic_ai_dapr.journal import Journal
from pydantic_ai_dapr.remote_tools import REMOTE_CALL, remote_call
from pydantic_ai_dapr.replaying import Workflow, replay
from pydantic_ai_dapr.run import WAKE_ACTIVITY, WorkflowContext
from pydantic_ai_dapr.types import HistoryEvent, WorkflowUnavailableError
from pydantic_ai_dapr.worker import Turns

log = logging.getLogger(__name__)
CALL_SECONDS = 5.0
PATIENCE_SECONDS = 0.5
WATCH_SECONDS = 1.0
READ_AGAIN_SECONDS = 0.1
HISTORY_READS = 10


class _SharedRuntime:
    """The connection of this process to one sidecar, ended with the last agent that uses it."""

    def __init__(
        self, address: tuple[str, int], runtime: Any, turns: Turns, client: AgentRunClient, users: int
    ) -> None:
        self._address, self._runtime, self._turns, self._client, self._users = address, runtime, turns, client, users
        self._lock = threading.Lock()

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                _connected.discard(self._address)
                self._runtime.shutdown()
                self._turns.clear()
                self._client.close()


_connected: set[tuple[str, int]] = set()


def start_together(runners: Sequence[WorkflowHost], runtime: WorkflowRuntime | None = None) -> None:
    """Host agents and graphs on one sidecar: it hands any of their work to this process, which must know them all.

    `runtime` is your own one, of the same sidecar, with workflows and activities of yours; it is started here.
    Raises ValueError where two have one name or their sidecars differ, and RuntimeError where this process is
    connected to that sidecar already.
    """
    addresses = {runner.address for runner in runners}
    names = [runner.name for runner in runners]
    if len(addresses) != 1 or len(set(names)) != len(names):
        raise ValueError(f"agents that start together need one sidecar and a name each, not {addresses} and {names}")
    (address,) = addresses
    if address in _connected:
        raise RuntimeError(
            f"this process hosts an agent on the sidecar {address[0]}:{address[1]} already; "
            "start all agents of a sidecar at once with start_together([…])"
        )
    first = runners[0]
    if first.api_token:
        setattr(settings, "DAPR_API_TOKEN", first.api_token)  # noqa: B010  # the SDK reads it there; untyped
    kept_runs = sum(runner.kept.limit for runner in runners)
    hosting: Any = runtime or WorkflowRuntime(
        host=address[0],
        port=str(address[1]),
        history_cache_max_instances=kept_runs or 1,
        maximum_thread_pool_workers=first.concurrency,
    )

    def keep_answer(ctx: object, asked: dict[str, Any]) -> dict[str, Any]:
        first.confirm(ctx)
        return asked

    client = AgentRunClient("any", host=address[0], port=address[1], api_token=first.api_token)

    def wake(ctx: object, child: dict[str, Any]) -> dict[str, Any]:
        woken = client.wake_child(**child)
        first.confirm(ctx)
        return woken

    hosting.register_activity(keep_answer, name=ASK_ACTIVITY)
    hosting.register_activity(wake, name=WAKE_ACTIVITY)
    hosting.register_workflow(remote_call(), name=REMOTE_CALL)
    for runner in runners:
        runner.host_on(hosting)
    turns = Turns.of(hosting, kept_runs)
    hosting.start()
    _connected.add(address)
    shared = _SharedRuntime(address, hosting, turns, client, len(runners))
    for runner in runners:
        runner.started(shared)


class WorkflowHost:
    """Executes runs from `start` to `shutdown`, with the guarantees of the durable loop.

    The sidecar is found at `host` and `port` (default: Dapr's environment variables); `api_token` is its API token,
    `state_store` the store for what is too large for a workflow's history (default: the only one that can hold
    workflows). `kept_runs` suspended runs are kept in memory, `concurrency` operations are executed at a time, and
    `on_attempt` hears of every execution. A subclass registers its workflow and activities in `register`.
    """

    def __init__(
        self,
        name: str,
        *,
        host: str | None = None,
        port: int | str | None = None,
        state_store: str | None = None,
        api_token: str | None = None,
        kept_runs: int = 256,
        concurrency: int = 100,
        on_attempt: AttemptHook | None = None,
        segment_answers: int = SEGMENT_ANSWERS,
    ) -> None:
        self.name, self.concurrency = name, concurrency
        self.address = (host or "127.0.0.1", int(port or settings.DAPR_GRPC_PORT))
        self.api_token = api_token or os.environ.get("DAPR_API_TOKEN")
        self.client = AgentRunClient(
            name, host=self.address[0], port=self.address[1], api_token=self.api_token, state_store=state_store
        )
        self.kept = KeptRuns(kept_runs)
        self.journal = Journal(self.client.payloads, self._history, self._patiently)
        self.deliveries: Deliveries | None = None
        self._segment_answers, self._on_attempt = segment_answers, on_attempt
        self._stopped = threading.Event()
        self._operations: OperationHost | None = None
        self._confirmations: Confirmations | None = None
        self._connection: _SharedRuntime | None = None

    @property
    def is_running(self) -> bool:
        """Whether this process executes runs."""
        return self._connection is not None

    def start(self) -> None:
        """Connect to the sidecar, and execute runs until `shutdown`; where this does so already, nothing is changed.

        Raises RuntimeError where this process hosts something else on the same sidecar: see `start_together`.
        """
        if not self.is_running:
            start_together([self])

    def register(self, runtime: Any) -> None:
        """Register workflows and activities."""
        raise NotImplementedError

    def host_on(self, runtime: Any) -> None:
        """Get ready to execute what the runtime will be given."""
        self._stopped.clear()
        self._operations = OperationHost(self._on_attempt)
        self._confirmations = Confirmations(
            lambda instance_id: self.client.hub.saved(instance_id, CALL_SECONDS),
            lambda instance_id: self.client.hub.tasks(instance_id, CALL_SECONDS),
        )
        self.deliveries = Deliveries(self._operations, self._confirmations, self.journal)
        self.register(runtime)

    def started(self, runtime: _SharedRuntime) -> None:
        """Hold on to the connection, and watch what runs."""
        self._connection = runtime
        threading.Thread(target=self._watch, args=(self._operations,), daemon=True).start()

    def shutdown(self) -> None:
        """Stop executing runs; they go on in another worker."""
        self._stopped.set()
        if self._confirmations is not None:
            self._confirmations.stop()
            self._confirmations = None
        if self._operations is not None:
            # First, since the connection ends only when what runs has ended.
            self._operations.stop()
            self._operations = None
        if self._connection is not None:
            self._connection.release()
            self._connection = None
        self.kept.clear()
        self.client.close()

    def drive(
        self,
        ctx: WorkflowContext,
        start: dict[str, Any],
        make: Callable[[], Coroutine[Any, Any, Any]],
        kept: KeptRuns | None = None,
    ) -> Generator[Any, Any, Any]:
        """A workflow: runs `make()` durably to its end; meanwhile the run is kept in `kept`, else with this host's."""
        kept = self.kept if kept is None else kept
        return (
            yield from drive(ctx, make, kept, start=start, journal=self.journal, segment_answers=self._segment_answers)
        )

    def catch_up(self, ctx: WorkflowContext, workflow: Callable[[KeptRuns], Workflow]) -> None:
        """Bring a run that this process doesn't know to where its history is.

        Where the code does something else than the history has, the run is stalled rather than failed: it waits for
        a worker whose code fits. `workflow(kept)` is the workflow that keeps its runs there.
        """
        if not ctx.is_replaying or ctx.instance_id in self.kept:
            return
        try:
            recorded = self.client.hub.recorded(ctx.instance_id, CALL_SECONDS)
        except WorkflowUnavailableError as error:
            log.info("run %s: its history can't be compared: %s", ctx.instance_id, error)
            return
        fresh, export = KeptRuns(1), Export.of(ctx.instance_id, recorded, [], [])
        report = replay(workflow(fresh), export, self.journal.resolve, inputs=False)
        run = fresh.take(ctx.instance_id)
        if report.difference is not None:
            if run is not None:
                run.unwind()
            log.error("run %s is stalled, since %s", ctx.instance_id, report.difference)
            ctx.set_custom_status(str(report.difference))
            raise VersionNotRegisteredException
        if run is not None:
            self.kept.keep(run)

    def deliver(self, ctx: Any, delivered: Envelope, body: OperationBody) -> Envelope:
        """An activity: executes what the engine delivers."""
        if self.deliveries is None:
            raise DroppedWorkError
        return self.deliveries.handle(Task.of(ctx), delivered, body)

    def confirm(self, ctx: Any) -> None:
        """Return once the turn that asked for an activity is saved; its answer would harm the run before."""
        if self._confirmations is None:
            raise DroppedWorkError
        self._confirmations.wait(Asked(Task.of(ctx)))

    def _history(self, instance_id: str) -> list[HistoryEvent]:
        """The run's history; a read may meet a state that is being written, and is then repeated."""
        for _ in range(HISTORY_READS - 1):
            try:
                return self.client.hub.history(instance_id, CALL_SECONDS)
            except WorkflowUnavailableError as error:
                log.info("run %s: reading the history again: %s", instance_id, error)
                self._stopped.wait(READ_AGAIN_SECONDS)
        return self.client.hub.history(instance_id, CALL_SECONDS)

    def _patiently(self, action: Callable[[], Any]) -> Any:
        """Repeat what the sidecar can't do now: to fail would fail the run. After `shutdown` the work is dropped."""
        told = False
        while True:
            try:
                return action()
            except WorkflowUnavailableError as error:
                if not told:
                    told = True
                    log.warning("the state store doesn't answer, trying again: %s", error)
            if self._stopped.wait(PATIENCE_SECONDS):
                raise DroppedWorkError

    def _watch(self, operations: OperationHost) -> None:
        """Cancel operations whose run has ended: nobody waits for their answer."""
        while not self._stopped.wait(WATCH_SECONDS):
            for instance_id in operations.instances(older_than=WATCH_SECONDS):
                try:
                    status = self.client.hub.status(instance_id, CALL_SECONDS, payloads=False)
                except WorkflowUnavailableError:
                    break
                if status is not None and status.is_terminal:
                    operations.cancel(instance_id)
