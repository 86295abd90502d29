"""A worker's turns come to the same as the SDK's, which runs a workflow through its whole history at each."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from queue import Queue
from types import SimpleNamespace
from typing import Any

import dapr.ext.workflow._durabletask.internal.helpers as helpers
import dapr.ext.workflow._durabletask.internal.protos as pb
import pytest
from dapr.ext.workflow import WorkflowRuntime, when_any
from dapr.ext.workflow._durabletask import worker as sdk
from pydantic_ai_dapr.worker import Turns

from tests.support.workflow_engine import BEGAN

pytestmark = pytest.mark.unit
Workflow = Callable[[Any, Any], Generator[Any, Any, Any]]


def counting(begun: list[str], closed: list[str]) -> Workflow:
    """Asks for an activity as often as its input says, and for a patch."""

    def workflow(ctx: Any, steps: int) -> Generator[Any, Any, Any]:
        begun.append(ctx.instance_id)
        total = 0
        try:
            for number in range(steps):
                ctx.set_custom_status(f"asks for {number}")
                if number == 1 and not ctx.is_patched("second"):
                    raise ValueError("the patch applies to every run here")
                total += yield ctx.call_activity("add", input={"number": number})
            return total
        except GeneratorExit:
            closed.append(ctx.instance_id)
            raise

    return workflow


class Run:
    """A workflow's history as the engine keeps it; each turn's answer is the SDK's too."""

    def __init__(self, turns: Turns, registry: Any, instance_id: str = "run-1", steps: int = 3) -> None:
        self.turns, self.registry, self.instance_id = turns, registry, instance_id
        self.history: list[Any] = []
        self.now = BEGAN
        self.tasks: list[int] = []
        self.patches = 0
        started = helpers.new_execution_started_event("counting", instance_id, str(steps))
        started.router.sourceAppID = "app"
        self.answer = self.turn(started)

    def turn(self, *events: Any) -> Any:
        """One turn, saved."""
        self.now += timedelta(seconds=1)
        began = helpers.new_workflow_started_event(self.now)
        new = [began, *events]
        request = pb.WorkflowRequest(instanceId=self.instance_id, newEvents=new)
        answer = self.turns.turn(request, [_copied(event) for event in self.history])
        theirs = sdk._OrchestrationExecutor(self.registry, logging.getLogger()).execute(
            self.instance_id, self.history, [_copied(event) for event in new]
        )
        assert [*map(_plain, answer.actions)] == [*map(_plain, theirs.actions)]
        assert answer.customStatus.value == (theirs.encoded_custom_status or "")
        assert [*answer.version.patches] == (theirs.patches or [])
        # The engine notes the patches that are new in the turn's first event.
        began.workflowStarted.version.patches.extend([*answer.version.patches][self.patches :])
        self.patches = len(answer.version.patches)
        self.history += new
        for action in answer.actions:
            if action.HasField("scheduleTask"):
                self.tasks.append(action.id)
                self.history.append(helpers.new_task_scheduled_event(action.id, "add"))
        return answer

    def complete(self) -> Any:
        """The turn in which the last activity is answered."""
        return self.turn(helpers.new_task_completed_event(self.tasks[-1], "7"))

    def to_its_end(self) -> int:
        """The run's result."""
        while len(self.tasks) < 3:
            self.complete()
        (end,) = self.complete().actions
        return int(end.completeWorkflow.result.value)


def _plain(action: Any) -> Any:
    copy = pb.WorkflowAction()
    copy.CopyFrom(action)
    copy.completeWorkflow.failureDetails.ClearField("stackTrace")
    return copy


def _copied(event: Any) -> Any:
    copy = pb.HistoryEvent()
    copy.CopyFrom(event)
    return copy


class Worker:
    """A worker that is connected to nothing, and what its workflows have told."""

    def __init__(self, limit: int) -> None:
        self.begun: list[str] = []
        self.closed: list[str] = []
        self.runtime = WorkflowRuntime(host="127.0.0.1", port="1")
        self.runtime.register_workflow(counting(self.begun, self.closed), name="counting")
        worker: Any = self.runtime._WorkflowRuntime__worker  # type: ignore[attr-defined]
        self.registry = worker._registry
        self.turns = Turns(worker, limit)

    def run(self, instance_id: str = "run-1") -> Run:
        return Run(self.turns, self.registry, instance_id)


def test_a_workflow_that_is_kept_begins_once() -> None:
    worker = Worker(limit=1)
    run = worker.run()
    begun = len(worker.begun)
    assert run.to_its_end() == 21
    assert len(worker.begun) - begun == 3  # the SDK's, one for each turn


def test_one_that_is_not_kept_is_run_by_its_whole_history() -> None:
    worker = Worker(limit=0)
    run = worker.run()
    begun = len(worker.begun)
    assert run.to_its_end() == 21
    assert len(worker.begun) - begun == 2 * 3


def test_a_history_that_went_another_way_wins() -> None:
    worker = Worker(limit=8)
    run = worker.run()
    saved = [*run.history]
    run.complete()
    # The turn was not saved: the region that took over answers the activity otherwise, and later.
    run.history, run.tasks, run.patches = saved, run.tasks[:1], 0
    run.now += timedelta(seconds=30)
    run.turn(helpers.new_task_completed_event(run.tasks[-1], "8"))
    assert run.to_its_end() == 22


def test_a_turn_that_is_delivered_twice_is_answered_alike() -> None:
    worker = Worker(limit=8)
    run = worker.run()
    request = pb.WorkflowRequest(
        instanceId="run-1",
        newEvents=[
            helpers.new_workflow_started_event(run.now + timedelta(seconds=1)),
            helpers.new_task_completed_event(run.tasks[-1], "7"),
        ],
    )
    first, second = (worker.turns.turn(request, run.history) for _ in range(2))
    assert first == second


def test_the_least_recently_used_workflow_is_unwound() -> None:
    worker = Worker(limit=2)
    worker.run("a"), worker.run("b")
    gc.collect()  # the SDK leaves its own to it
    worker.closed.clear()
    worker.run("c")
    assert "a" in worker.closed
    assert "b" not in worker.closed
    worker.turns.clear()
    assert {"b", "c"} <= {*worker.closed}


def test_a_failed_workflow_is_not_kept() -> None:
    worker = Worker(limit=8)
    run = worker.run()
    failed = run.turn(helpers.new_task_failed_event(run.tasks[-1], ValueError("no")))
    (end,) = failed.actions
    assert end.completeWorkflow.workflowStatus == pb.ORCHESTRATION_STATUS_FAILED
    assert not worker.turns._kept


def waiting(ctx: Any, _: Any) -> Generator[Any, Any, Any]:
    """Waits for `recover` as every run does, and for another event."""
    recovered = ctx.wait_for_external_event("recover")
    yield when_any([recovered, ctx.wait_for_external_event("approved"), ctx.call_activity("add")])
    return recovered.get_result()


@pytest.mark.parametrize("timers", [["approved"], ["recover", "approved"]], ids=["a run", "an earlier version's"])
def test_the_wait_for_recover_has_a_timer_only_where_the_history_has(timers: list[str]) -> None:
    worker = Worker(limit=0)
    worker.runtime.register_workflow(lambda ctx, value: waiting(ctx, value), name="waiting")
    began = [helpers.new_workflow_started_event(BEGAN), helpers.new_execution_started_event("waiting", "run-1", "1")]
    noted = [
        pb.HistoryEvent(
            eventId=number,
            timerCreated=pb.TimerCreatedEvent(
                fireAt=helpers.OPTIONAL_TIMER_FIRE_AT, externalEvent=pb.TimerOriginExternalEvent(name=name)
            ),
        )
        for number, name in enumerate(timers, 1)
    ]
    noted.append(helpers.new_task_scheduled_event(len(timers) + 1, "add"))
    first = worker.turns.turn(pb.WorkflowRequest(instanceId="run-1", newEvents=began), [])
    assert [action.createTimer.externalEvent.name for action in first.actions] == ["approved", ""]
    raised = [helpers.new_workflow_started_event(BEGAN), helpers.new_event_raised_event("recover", "7")]
    second = worker.turns.turn(pb.WorkflowRequest(instanceId="run-1", newEvents=raised), [*began, *noted])
    assert [action.completeWorkflow.result.value for action in second.actions] == ["7"]


class Sidecar:
    """A connection whose stream of work items is a list."""

    def __init__(self, *items: Any) -> None:
        self.ended: list[bool] = []
        self.items = iter(items)

    def GetWorkItems(self, request: Any) -> Sidecar:  # as gRPC has it
        return self

    def __next__(self) -> Any:
        return next(self.items)

    def cancel(self) -> None:
        self.ended.append(True)


TURN = pb.WorkItem(workflowRequest=pb.WorkflowRequest(instanceId="run-1"), completionToken="turn")
TASK = pb.WorkItem(activityRequest=pb.ActivityRequest(name="add", taskId=7), completionToken="task")
PING = pb.WorkItem(healthPing=pb.HealthPing())


def connected(sidecar: Sidecar) -> tuple[Any, Any, Queue[tuple[Any, ...]]]:
    """A worker that has just connected, its stream, and what its threads are given."""
    runtime: Any = WorkflowRuntime(host="127.0.0.1", port="1")
    runtime.register_activity(lambda ctx, value: value, name="add")
    worker, handed = runtime._WorkflowRuntime__worker, Queue[tuple[Any, ...]]()
    Turns.of(runtime, 1)
    worker._execute_orchestrator = lambda request, token, reset: handed.put((request.instanceId, token, reset()))
    worker._execute_activity = lambda activity, request, token: handed.put((activity, request.taskId, token))
    assert worker._set_connection(object(), sidecar)
    return worker, worker._current_stub.GetWorkItems(pb.GetWorkItemsRequest()), handed


def test_a_work_item_goes_from_the_stream_to_its_thread() -> None:
    sidecar = Sidecar(TURN, TASK, PING)
    worker, items, handed = connected(sidecar)
    assert next(items) == PING
    given = sorted((handed.get(timeout=5) for _ in range(2)), key=str)
    assert ("run-1", "turn", None) in given
    assert (worker._registry.get_activity("add"), 7, "task") in given
    assert sidecar.ended == [True]  # the turn asked for a new stream
    with pytest.raises(StopIteration):
        next(items)
    items.cancel()
    assert sidecar.ended == [True, True]


def test_a_worker_that_stops_begins_nothing() -> None:
    worker, items, handed = connected(Sidecar(TURN, TASK))
    worker._shutdown.set()
    assert [next(items), next(items)] == [TURN, TASK]
    assert handed.empty()


def test_a_history_that_cant_be_had_is_asked_for_again() -> None:
    asked: list[str] = []

    def unknown(request: Any) -> list[Any]:
        raise sdk._HistoryResolutionError("it isn't there")

    turns = Turns(SimpleNamespace(_resolve_history=unknown), 1)
    turns.execute(pb.WorkflowRequest(instanceId="run-1"), "token", lambda: asked.append("again"))
    assert asked == ["again"]


class Answering:
    """A worker whose answers are listed as they are sent; `before` is called when one is about to be."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.before: Callable[[], None] = lambda: None
        self._update_history_cache = lambda *_: None

    def _resolve_history(self, request: Any) -> list[Any]:
        return []

    def _send_on_current_connection(self, send: Callable[[Any], None], what: str) -> None:
        self.before()
        send(None)

    def _send_orchestrator_response(self, request: Any, stub: Any, response: Any, token: str) -> None:
        self.sent.append(token)


def answering() -> tuple[Answering, Turns]:
    """A worker, and the turns of it, each of which has the empty answer."""
    worker = Answering()
    turns = Turns(worker, 1)
    turns.turn = lambda request, history: pb.WorkflowResponse(instanceId=request.instanceId)
    return worker, turns


def test_a_delivery_that_was_given_up_has_no_answer_that_could_be_taken_for_the_next_ones() -> None:
    worker, turns = answering()
    first, again, other = (pb.WorkflowRequest(instanceId=name) for name in ("run-1", "run-1", "run-2"))
    for request in (first, other, again):
        turns.arrived(request)
    for request, token in ((first, "first"), (other, "other"), (again, "again")):
        turns.execute(request, token, lambda: None)
    assert worker.sent == ["other", "again"]


def test_an_answer_that_another_delivery_overtakes_on_its_way_is_not_sent() -> None:
    worker, turns = answering()
    first, again = pb.WorkflowRequest(instanceId="run-1"), pb.WorkflowRequest(instanceId="run-1")
    turns.arrived(first)
    worker.before = lambda: turns.arrived(again)
    turns.execute(first, "first", lambda: None)
    worker.before = lambda: None
    turns.execute(again, "again", lambda: None)
    assert worker.sent == ["again"]


def test_what_has_its_answer_is_not_remembered() -> None:
    worker, turns = answering()
    turns.arrived(TURN.workflowRequest)
    turns.execute(TURN.workflowRequest, "turn", lambda: None)
    turns.execute(pb.WorkflowRequest(instanceId="run-1"), "from the SDK's own reader", lambda: None)
    assert worker.sent == ["turn", "from the SDK's own reader"]
    assert not turns._newest


def delivery(began: float, committed: int = 3) -> Any:
    """A turn after so many events, which the engine began at that time."""
    started = helpers.new_workflow_started_event(datetime.fromtimestamp(began, UTC))
    return pb.WorkflowRequest(instanceId="run-1", pastEvents=[pb.HistoryEvent()] * committed, newEvents=[started])


@pytest.mark.parametrize(
    ("began", "committed", "answered"),
    [
        (99.0, 3, []),  # the engine waited for this one when the first one's answer came
        (101.0, 3, ["again"]),  # the answer came when it waited for nothing
        (99.9, 3, ["again"]),  # too close to tell: a turn without an answer would never end
        (99.0, 5, ["again"]),  # the turn that follows
    ],
)
def test_a_delivery_that_the_first_ones_answer_has_ended_gets_no_other(
    monkeypatch: pytest.MonkeyPatch, began: float, committed: int, answered: list[str]
) -> None:
    worker, turns = answering()
    monkeypatch.setattr("pydantic_ai_dapr.worker.time.time", lambda: 100.0)
    for request, token in ((delivery(90.0), "first"), (delivery(began, committed), "again")):
        turns.arrived(request)
        turns.execute(request, token, lambda: None)
    assert worker.sent == ["first", *answered]


def test_so_many_workflows_last_answers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pydantic_ai_dapr.worker.ANSWERS", 2)
    _, turns = answering()
    for name in ("run-1", "run-2", "run-1", "run-3"):
        turns.execute(pb.WorkflowRequest(instanceId=name), "turn", lambda: None)
    assert list(turns._answered) == ["run-1", "run-3"]
