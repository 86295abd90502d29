"""Hosts workflows in this process: what a runner needs beside the code that it runs."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol

from dapr.conf import settings

from pydantic_ai_dapr.client import AgentRunClient
from pydantic_ai_dapr.confirmation import Confirmations
from pydantic_ai_dapr.driver import SEGMENT_ANSWERS, KeptRuns, drive
from pydantic_ai_dapr.host import AttemptHook, Deliveries, Envelope, OperationBody, OperationHost
from pydantic_ai_dapr.journal import Journal
from pydantic_ai_dapr.run import WorkflowContext
from pydantic_ai_dapr.runner import start_together
from pydantic_ai_dapr.types import HistoryEvent, WorkflowUnavailableError

log = logging.getLogger(__name__)
CALL_SECONDS = 5.0
PATIENCE_SECONDS = 0.5
WATCH_SECONDS = 1.0
READ_AGAIN_SECONDS = 0.1
HISTORY_READS = 10


class Connection(Protocol):
    """This process's connection to a sidecar, shared by what it hosts there."""

    def release(self) -> None: ...


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
        self._connection: Connection | None = None

    @property
    def is_running(self) -> bool:
        """Whether this process executes runs."""
        return self._connection is not None

    def start(self) -> None:
        """Connect to the sidecar, and execute runs until `shutdown`.

        Raises RuntimeError where this process hosts something on the same sidecar already: see `start_together`.
        """
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
            lambda instance_id: self.client.hub.answered(instance_id, CALL_SECONDS),
        )
        self.deliveries = Deliveries(self._operations, self._confirmations, self.journal)
        self.register(runtime)

    def started(self, runtime: Connection) -> None:
        """Hold on to the connection, and watch what runs."""
        self._connection = runtime
        threading.Thread(target=self._watch, args=(self._operations,), daemon=True).start()

    def shutdown(self) -> None:
        """Stop executing runs; they go on in another worker."""
        self._stopped.set()
        if self._confirmations is not None:
            self._confirmations.stop()
            self._confirmations = None
        if self._connection is not None:
            self._connection.release()
            self._connection = None
        if self._operations is not None:
            self._operations.stop()
            self._operations = None
        self.kept.clear()
        self.client.close()

    def drive(
        self, ctx: WorkflowContext, start: dict[str, Any], make: Callable[[], Coroutine[Any, Any, Any]]
    ) -> Generator[Any, Any, Any]:
        """A workflow: runs `make()` durably to its end."""
        return (
            yield from drive(
                ctx, make, self.kept, start=start, journal=self.journal, segment_answers=self._segment_answers
            )
        )

    def handle(self, ctx: Any, delivered: Envelope, body: OperationBody) -> Envelope:
        """An activity: executes what the engine delivers."""
        if self.deliveries is None:
            raise DroppedWorkError
        return self.deliveries.handle(ctx.workflow_id, ctx.task_id, delivered, body)

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


class DroppedWorkError(BaseException):
    """Ends a work item without an answer: the engine gives it to another worker."""
