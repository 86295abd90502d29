"""Goes on with a workflow where its last turn in this process ended, rather than from its beginning.

The SDK runs a workflow's generator anew at each
turn, through its whole history. Here the generator is kept as its last turn left it, with the events that it has taken:
a turn whose history begins with these takes only what comes after them. Any other turn, of a process that knows nothing
of the run or something else, is run by its whole history.

Dapr 1.18 knows a turn's answer by its workflow's id alone, and takes it for the delivery that it waits for. So a
delivery that the engine gave up and repeated is not answered: its answer would be the repetition's, the repetition's
that of the turn that follows, and the history would ask twice for one task. Where the first answer was on its way
before the repetition came here, but after the engine had begun to wait for it, it was taken: none is sent then.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportPrivateUsage=false, reportUnknownParameterType=false
from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import dapr.ext.workflow._durabletask.internal.helpers as helpers
import dapr.ext.workflow._durabletask.internal.protos as pb
from dapr.ext.workflow import WorkflowRuntime
from dapr.ext.workflow._durabletask import task
from dapr.ext.workflow._durabletask import worker as sdk
from dapr.ext.workflow.propagation import PropagatedHistory

from pydantic_ai_dapr.errors import DroppedWorkError
from pydantic_ai_dapr.types import RECOVER

log = logging.getLogger(__name__)
BEGINS_TO_WAIT_SECONDS = 0.25
"""From a turn's first event until the engine waits for its answer: much less, on any machine."""
ANSWERS = 4096
"""So many workflows' last answers are remembered."""


@dataclass(frozen=True)
class _Suspended:
    """A workflow as its last turn left it; it has taken `events`."""

    executor: Any
    ctx: Any
    events: list[Any]

    def close(self) -> None:
        """Let go of the generator, which refers to its context."""
        if self.ctx._generator is not None:
            self.ctx._generator.close()


@dataclass(frozen=True)
class _Answered:
    """An answer that was sent from `at` on, in Unix seconds, to a turn that came after so many events."""

    committed: int
    at: float


class Turns:
    """Executes the turns of a worker's workflows; at most `limit` suspended ones are kept, the last used.

    Safe to use from several threads.
    """

    def __init__(self, worker: Any, limit: int) -> None:
        self._worker, self._limit, self._lock = worker, limit, threading.Lock()
        self._kept: OrderedDict[str, _Suspended] = OrderedDict()
        self._newest: dict[str, Any] = {}
        self._answered: OrderedDict[str, _Answered] = OrderedDict()

    @classmethod
    def of(cls, runtime: WorkflowRuntime, limit: int) -> Turns:
        """Execute the turns of what is registered with a runtime that has not been started yet."""
        worker: Any = runtime._WorkflowRuntime__worker  # type: ignore[attr-defined]
        turns = cls(worker, limit)
        worker._execute_orchestrator = turns.execute
        worker._execute_activity = _dropping(worker._execute_activity)
        worker._set_connection = _handing_out(worker, turns)
        return turns

    def arrived(self, request: Any) -> None:
        """A turn was delivered: earlier deliveries of the same workflow that have no answer yet get none."""
        with self._lock:
            self._newest[request.instanceId] = request

    def execute(self, request: Any, token: Any, reset: Callable[[], None]) -> None:
        """Execute a turn, and send what came of it. As the SDK's worker does it, but for what is kept, and for a
        delivery that another one has taken the place of: that is dropped.

        Where the history can't be had, `reset` lets the engine deliver the turn again.
        """
        try:
            if self._is_newest(request) and not self._has_answer(request):
                self._execute(request, token, reset)
        finally:
            with self._lock:
                if self._newest.get(request.instanceId) is request:
                    del self._newest[request.instanceId]

    def _execute(self, request: Any, token: Any, reset: Callable[[], None]) -> None:
        instance_id = request.instanceId
        try:
            history = self._worker._resolve_history(request)
        except sdk._HistoryResolutionError as error:
            log.warning("%s; it is asked for again", error)
            reset()
            return
        response = self.turn(request, history)
        response.completionToken = token
        self._worker._update_history_cache(instance_id, history, response.actions)

        def send(stub: Any) -> None:
            if self._is_newest(request):
                self._note_answer(request)
                self._worker._send_orchestrator_response(request, stub, response, token)

        self._worker._send_on_current_connection(send, f"orchestrator response for '{instance_id}'")

    def _is_newest(self, request: Any) -> bool:
        with self._lock:
            newest = self._newest.get(request.instanceId, request)
        if newest is not request:
            log.info("run %s: a turn was delivered again, its first delivery is dropped", request.instanceId)
        return newest is request

    def _has_answer(self, request: Any) -> bool:
        """Whether the answer to an earlier delivery of the turn was sent when the engine waited for this one's."""
        with self._lock:
            answered = self._answered.get(request.instanceId)
        waits = _begun(request) + BEGINS_TO_WAIT_SECONDS
        if answered is None or answered.committed != _committed(request) or answered.at < waits:
            return False
        log.info("run %s: a turn was delivered again, and ended by its first answer", request.instanceId)
        return True

    def _note_answer(self, request: Any) -> None:
        with self._lock:
            self._answered[request.instanceId] = _Answered(_committed(request), time.time())
            self._answered.move_to_end(request.instanceId)
            while len(self._answered) > ANSWERS:
                self._answered.popitem(last=False)

    def turn(self, request: Any, history: list[Any]) -> Any:
        """The answer to a turn of the workflow with that committed history."""
        instance_id, new = request.instanceId, list(request.newEvents)
        suspended, unseen = self._suspended(request, history)
        ctx, executor = suspended.ctx, suspended.executor
        try:
            ctx._is_replaying = True
            for event in unseen:
                executor.process_event(ctx, event)
            ctx._is_replaying = False
            for event in new:
                executor.process_event(ctx, event)
        except sdk.VersionNotRegisteredException:
            ctx.set_version_not_registered()
        except Exception as error:
            ctx.set_failed(error)
        else:
            if not ctx._is_complete:
                self._keep(instance_id, _Suspended(executor, ctx, history + new))
        version = None
        if ctx._version_name or ctx._encountered_patches:
            version = pb.WorkflowVersion(name=ctx._version_name, patches=ctx._encountered_patches)
        return pb.WorkflowResponse(
            instanceId=instance_id,
            actions=ctx.get_actions(),
            customStatus=helpers.get_string_value(ctx._encoded_custom_status),
            version=version,
        )

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            kept = list(self._kept.values())
            self._kept.clear()
        for suspended in kept:
            suspended.close()

    def _suspended(self, request: Any, history: list[Any]) -> tuple[_Suspended, list[Any]]:
        """The workflow as it is before what comes second, the part of its history that it has not taken yet."""
        with self._lock:
            kept = self._kept.pop(request.instanceId, None)
        if kept is not None:
            taken = len(kept.events)
            if taken <= len(history) and all(map(_same, kept.events, history)):
                return kept, history[taken:]
            kept.close()
        ctx: Any = Context(request.instanceId, history)
        if request.HasField("propagatedHistory"):
            ctx.set_propagated_history(PropagatedHistory.from_proto(request.propagatedHistory))
        return _Suspended(sdk._OrchestrationExecutor(self._worker._registry, self._worker._logger), ctx, []), history

    def _keep(self, instance_id: str, suspended: _Suspended) -> None:
        with self._lock:
            self._kept[instance_id] = suspended
            excess: Sequence[_Suspended] = [
                self._kept.popitem(last=False)[1] for _ in range(len(self._kept) - self._limit)
            ]
        for old in excess:
            old.close()


class WorkItems:
    """A sidecar's stream of work items. Each goes to its pool of threads from the thread that reads; the SDK, whose
    way for it is two queues and an event loop, gets the rest, and every item once its worker stops.
    """

    def __init__(self, worker: Any, turns: Turns, stream: Any) -> None:
        self._worker, self._turns, self._stream = worker, turns, stream
        self._reset: Callable[[], None] = worker._make_stream_teardown(stream)

    def __next__(self) -> Any:
        item = next(self._stream)
        while not self._worker._shutdown.is_set() and self._is_handed_out(item):
            item = next(self._stream)
        return item

    def cancel(self) -> None:
        """End the stream."""
        self._stream.cancel()

    def _is_handed_out(self, item: Any) -> bool:
        worker, pools = self._worker, self._worker._async_worker_manager
        if item.HasField("workflowRequest"):
            self._turns.arrived(item.workflowRequest)
            pools.orchestration_thread_pool.submit(
                worker._execute_orchestrator, item.workflowRequest, item.completionToken, self._reset
            )
        elif item.HasField("activityRequest"):
            request = item.activityRequest
            activity = worker._registry.get_activity(request.name)
            pools.thread_pool.submit(worker._execute_activity, activity, request, item.completionToken)
        else:
            return False
        return True


def _handing_out(worker: Any, turns: Turns) -> Callable[[Any, Any], bool]:
    """Makes a connection the worker's, whose streams hand out their items."""
    connect: Callable[[Any, Any], bool] = worker._set_connection

    def connect_handing_out(channel: Any, stub: Any) -> bool:
        items = stub.GetWorkItems
        stub.GetWorkItems = lambda request: WorkItems(worker, turns, items(request))  # pyright: ignore[reportUnknownLambdaType]
        return connect(channel, stub)

    return connect_handing_out


class Context(sdk._RuntimeOrchestrationContext):
    """A workflow's context, in which a run's wait for `recover` is nothing that the engine keeps.

    The SDK sets a timer that never fires beside each wait without an end: the engine keeps a reminder for it, and
    looks for reminders when the workflow ends. A history that begins with such a timer goes on with it.
    """

    def __init__(self, instance_id: str, history: Iterable[Any]) -> None:
        super().__init__(instance_id)
        self._is_timed = any(_waits_for_recover(event.timerCreated) for event in history)

    def create_timer_internal(
        self, fire_at: Any, retryable_task: Any = None, origin: Any = None
    ) -> task.TimerTask[Any]:
        if not self._is_timed and isinstance(origin, pb.TimerOriginExternalEvent) and origin.name == RECOVER:
            return task.TimerTask()
        return super().create_timer_internal(fire_at, retryable_task, origin)


def _committed(request: Any) -> int:
    """How many events the turn's history has."""
    return request.cachedHistory.eventCount + len(request.pastEvents)


def _begun(request: Any) -> float:
    """When the engine began the turn, in Unix seconds; never, where it doesn't say."""
    began = [event.timestamp for event in request.newEvents if event.HasField("workflowStarted")]
    return began[-1].ToNanoseconds() / 1e9 if began else math.inf


def _waits_for_recover(timer: Any) -> bool:
    return timer.externalEvent.name == RECOVER


def _dropping(execute: Callable[..., None]) -> Callable[..., None]:
    """Executes an activity; one that drops its work ends without an answer, and without a traceback in the log."""

    def execute_or_drop(*args: Any) -> None:
        with suppress(DroppedWorkError):
            execute(*args)

    return execute_or_drop


def _same(taken: Any, committed: Any) -> bool:
    """Whether an event was committed as it was taken; the engine notes the patches of a turn in its first event."""
    if taken is committed:
        return True
    if committed.HasField("workflowStarted"):
        return taken.HasField("workflowStarted") and taken.timestamp == committed.timestamp
    return taken == committed
