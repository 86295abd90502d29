"""Executes operations on a thread of their own, each at most once in this process.

Dapr's worker runs activities on a loop that its reconnection blocks, and may deliver an activity again while it
runs. Here a second delivery joins the running execution, and one that has just ended gets the remembered answer.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from pydantic_ai.durable_exec import durable_unit_scope

from pydantic_ai_dapr.confirmation import Asked, Confirmations, Task
from pydantic_ai_dapr.context import operation_scope
from pydantic_ai_dapr.errors import DroppedWorkError, to_value
from pydantic_ai_dapr.payloads import PayloadTooLargeError, reference_of
from pydantic_ai_dapr.progress import progress_scope
from pydantic_ai_dapr.run import PayloadAccess, identity
from pydantic_ai_dapr.tracing import Carrier, Remarks, continued
from pydantic_ai_dapr.types import Attempt, Operation, Outcome

Envelope = dict[str, Any]
AttemptHook = Callable[[Attempt], None]
Body = Callable[[], Awaitable[object]]
OperationBody = Callable[[Operation, Any], Awaitable[object]]
REMEMBERED = 2048
"""Answers of ended operations that are kept for a late second delivery."""


def envelope(
    operation: Operation,
    params: Any,
    *,
    segment: int = 0,
    issued: int = 0,
    issued_at: float = 0.0,
    trace: Carrier | None = None,
) -> Envelope:
    """An operation with its parameters, as an activity's input.

    It is the `issued`-th step of its segment, asked for at `issued_at` (Unix seconds), and executed in the `trace`.
    """
    made = {"segment": segment, "issued": issued, "issued_at": issued_at, **identity(operation), "params": params}
    return made | {"trace": trace} if trace else made


def opened(instance_id: str, payload: Envelope) -> Operation:
    """The operation of an activity's input."""
    return Operation(
        run_id=payload["run"],
        instance_id=instance_id,
        ordinal=payload["ordinal"],
        kind=payload["kind"],
        name=payload["name"],
        attempt=payload["attempt"],
    )


class LoopThread:
    """An asyncio loop on a daemon thread, for as long as the process lives or until `stop`."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def submit(self, body: Awaitable[Any]) -> Future[Any]:
        """Run a coroutine there."""

        async def run() -> Any:
            return await body

        return asyncio.run_coroutine_threadsafe(run(), self.loop)

    def stop(self) -> None:
        """Cancel what runs, and end the thread."""

        async def cancel_all() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(cancel_all(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        if not self._thread.is_alive():
            self.loop.close()


@dataclass(frozen=True)
class _Key:
    instance_id: str
    ordinal: int
    attempt: int


def _key(operation: Operation) -> _Key:
    return _Key(operation.instance_id, operation.ordinal, operation.attempt)


class OperationHost:
    """Runs bodies of operations; `on_attempt` hears of every real execution, at its start and at its end."""

    def __init__(self, on_attempt: AttemptHook | None = None) -> None:
        self._thread = LoopThread("pydantic-ai-dapr-operations")
        self._on_attempt = on_attempt
        self._lock = threading.Lock()
        self._running: dict[_Key, Future[Envelope]] = {}
        self._began: dict[_Key, float] = {}
        self._cancelled: set[_Key] = set()
        self._stopped = False
        self._ended: OrderedDict[_Key, Envelope] = OrderedDict()

    def execute(self, operation: Operation, body: Body, trace: Carrier | None = None) -> Envelope:
        """The operation's answer: `{"ok": …}`, `{"err": …}` with the error as a value, or `{"sleep": seconds}`.

        Blocks until it is there.
        """
        return self.begin(operation, body, trace)()

    def begin(self, operation: Operation, body: Body, trace: Carrier | None = None) -> Callable[[], Envelope]:
        """Begin to execute the operation, or join its execution; what is returned waits for the answer.

        It is executed in `trace`, and what it says about the span there is in the answer, under `span`. Raises
        DroppedWorkError after `stop`.
        """
        key = _key(operation)
        with self._lock:
            if self._stopped:
                raise DroppedWorkError
            if key in self._ended:
                ended = self._ended[key]
                return lambda: ended
            running = self._running.get(key)
            joined = running is not None
            if running is None:
                running = self._running[key] = self._thread.submit(self._run(operation, body, trace or {}))
                self._began[key] = time.monotonic()
        if joined:
            self._tell(operation, "started", joined=True)
        else:
            running.add_done_callback(lambda done: self._remember(key, done))

        def answer() -> Envelope:
            try:
                return running.result()
            except CancelledError:
                if key not in self._cancelled:
                    raise DroppedWorkError from None
                return error_answer(OperationCancelledError(f"{operation.key} was cancelled: its run has ended"))

        return answer

    def remembers(self, operation: Operation) -> bool:
        """Whether the operation's answer is at hand."""
        with self._lock:
            return _key(operation) in self._ended

    def instances(self, older_than: float) -> set[str]:
        """The workflows of which something has been running for so many seconds."""
        with self._lock:
            return {key.instance_id for key, began in self._began.items() if time.monotonic() - began > older_than}

    def cancel(self, instance_id: str) -> None:
        """Cancel what runs of a workflow. A synchronous tool's thread can't be stopped; its answer is dropped."""
        with self._lock:
            running = {key: future for key, future in self._running.items() if key.instance_id == instance_id}
            self._cancelled |= running.keys()
        for future in running.values():
            future.cancel()

    def stop(self) -> None:
        """Cancel what runs, and begin nothing any more."""
        with self._lock:
            self._stopped = True
        self._thread.stop()

    async def _run(self, operation: Operation, body: Body, trace: Carrier) -> Envelope:
        self._tell(operation, "started")
        outcome: Outcome = "error"
        remarks: Remarks = {}
        answer: Envelope = {}
        try:
            with (
                durable_unit_scope(),
                operation_scope(operation),
                progress_scope(operation) as progress,
                continued(trace) as remarks,
            ):
                try:
                    answer = await progress.answer(body)
                    outcome = "asleep" if "sleep" in answer else "ok"
                except Exception as error:
                    answer = error_answer(error)
                answer |= progress.told(done=outcome == "ok")
        finally:
            self._tell(operation, "ended", outcome=outcome, response=answer.get("ok"))
        return answer | {"span": remarks} if remarks else answer

    def _remember(self, key: _Key, done: Future[Envelope]) -> None:
        with self._lock:
            self._running.pop(key, None)
            self._began.pop(key, None)
            if not done.cancelled() and done.exception() is None:
                self._ended[key] = done.result()
                while len(self._ended) > REMEMBERED:
                    self._ended.popitem(last=False)

    def _tell(
        self,
        operation: Operation,
        phase: Literal["started", "ended"],
        *,
        outcome: Outcome | None = None,
        joined: bool = False,
        response: object = None,
    ) -> None:
        if self._on_attempt is None:
            return
        model, tokens = _spent(response) if operation.kind == "model" else (None, None)
        attempt = Attempt(
            phase=phase,
            run_id=operation.run_id,
            instance_id=operation.instance_id,
            ordinal=operation.ordinal,
            key=operation.key,
            kind=operation.kind,
            name=operation.name,
            attempt=operation.attempt,
            at=time.time(),
        )
        self._on_attempt(replace(attempt, outcome=outcome, joined=joined, model=model, tokens=tokens))


def _spent(response: object) -> tuple[str | None, tuple[int, int] | None]:
    """Which model a response on the wire is from, and its tokens: in, out."""
    if not isinstance(response, dict):
        return None, None
    wire = cast("dict[str, Any]", response)
    usage = wire.get("usage")
    if not isinstance(usage, dict):
        return wire.get("model_name"), None
    spent = cast("dict[str, Any]", usage)
    return wire.get("model_name"), (spent.get("input_tokens") or 0, spent.get("output_tokens") or 0)


class OperationCancelledError(Exception):
    """The operation's run was ended while it was executed."""


class StaleDeliveryError(Exception):
    """The operation was answered before, or its run has ended: nobody waits for this."""


class Deliveries:
    """Executes what the engine delivers: in time, once in this process, and answered when the answer is safe."""

    def __init__(self, operations: OperationHost, confirmations: Confirmations, payloads: PayloadAccess) -> None:
        self._operations, self._confirmations, self._payloads = operations, confirmations, payloads

    def handle(self, task: Task, delivered: Envelope, body: OperationBody) -> Envelope:
        """The activity's result: an answer as `OperationHost.execute` gives it, or a reference to it.

        `body(operation, params)` executes the operation. Blocks until the turn that asked for it is saved, which it
        finds out while the operation is being executed; raises DroppedWorkError where it never will be.
        """
        instance_id, operation = task.instance_id, opened(task.instance_id, delivered)
        asked = Asked(task, delivered["segment"], delivered["issued"], delivered["issued_at"])
        if self._confirmations.is_answered(asked):
            self._confirmations.wait(asked)
            return error_answer(StaleDeliveryError(f"{operation.key} needs no execution any more"))
        trace = delivered.get("trace")
        answer = self._operations.begin(operation, lambda: self._body(operation, delivered, body), trace)
        self._confirmations.wait(asked)
        try:
            return self._payloads.offload(instance_id, answer())
        except PayloadTooLargeError as error:
            return error_answer(error)

    async def _body(self, operation: Operation, delivered: Envelope, body: OperationBody) -> object:
        params = delivered["params"]
        if reference_of(params) is not None:
            params = await asyncio.to_thread(self._payloads.resolve, params)
        return await body(operation, params)


def error_answer(error: BaseException) -> Envelope:
    """An error as an operation's answer."""
    return {"err": to_value(error).model_dump(mode="json", exclude_none=True)}
