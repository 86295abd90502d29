"""Talks to the sidecar's workflow engine over gRPC, with a deadline on every call.

The SDK's client has no deadline of its own (scheduling blocks without end while no worker is connected) and its
history has neither inputs nor results, so this speaks the same protocol through the SDK's generated messages.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportUnknownParameterType=false, reportMissingTypeStubs=false
# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeVar

import dapr.ext.workflow._durabletask.internal.orchestrator_service_pb2_grpc as stubs
import dapr.ext.workflow._durabletask.internal.protos as pb
import grpc
from dapr.proto import api_v1 as runtime
from dapr.proto import common_v1 as common
from dapr.proto.runtime.v1.dapr_pb2_grpc import DaprStub
from google.protobuf.wrappers_pb2 import StringValue
from pydantic import JsonValue

from pydantic_ai_dapr.confirmation import Saved, Tasks
from pydantic_ai_dapr.recorded import failure_of, history_event, json_of, time_of
from pydantic_ai_dapr.types import (
    TERMINAL,
    HistoryEvent,
    HistoryTamperedError,
    RunExistsError,
    RunStatus,
    Status,
    WorkflowUnavailableError,
)

Answer = TypeVar("Answer")
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
READ_AGAIN_SECONDS = 0.02
_NOT_SIGNED = "signature verification failed"
_HALF_READ = "declared in metadata"
"""What the sidecar says where a read met a state that was being written; the next one does not."""
_REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)

_STATUS: dict[int, Status] = {
    pb.ORCHESTRATION_STATUS_PENDING: "pending",
    pb.ORCHESTRATION_STATUS_RUNNING: "running",
    pb.ORCHESTRATION_STATUS_CONTINUED_AS_NEW: "running",
    pb.ORCHESTRATION_STATUS_COMPLETED: "completed",
    pb.ORCHESTRATION_STATUS_FAILED: "failed",
    pb.ORCHESTRATION_STATUS_TERMINATED: "terminated",
    pb.ORCHESTRATION_STATUS_CANCELED: "terminated",
    pb.ORCHESTRATION_STATUS_SUSPENDED: "suspended",
    pb.ORCHESTRATION_STATUS_STALLED: "stalled",
}


class TaskHub:
    """One sidecar's workflow engine: every method ends within its timeout (seconds).

    Raises WorkflowUnavailableError where the sidecar does not answer: the effect is then unknown. Safe to use from
    several threads; reconnects by itself.
    """

    def __init__(self, host: str, port: int, api_token: str | None) -> None:
        options = [
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.enable_http_proxy", 0),
        ]
        self._channel = grpc.insecure_channel(f"{host}:{port}", options=options)
        self._stub = stubs.TaskHubSidecarServiceStub(self._channel)
        self._dapr = DaprStub(self._channel)
        self._metadata = (("dapr-api-token", api_token),) if api_token else ()

    def start(self, instance_id: str, workflow: str, value: JsonValue, timeout: float, *, unique: bool = False) -> None:
        """Start a workflow. Raises RunExistsError where the id is taken, also by one that has ended.

        Dapr would wipe that one's history and run it again, so it is asked first, except where the id was made up
        just now and is `unique`.
        """
        if not unique and self.status(instance_id, timeout, payloads=False) is not None:
            raise RunExistsError(f"a run {instance_id} exists already")
        request = pb.CreateInstanceRequest(
            name=workflow,
            instanceId=instance_id,
            input=StringValue(value=json.dumps(value)),
            version=StringValue(value=""),
        )
        self._call(self._stub.StartInstance, request, timeout)

    def status(self, instance_id: str, timeout: float, *, payloads: bool = True) -> RunStatus | None:
        """The workflow's state, or None where there is none of that id."""
        request = pb.GetInstanceRequest(instanceId=instance_id, getInputsAndOutputs=payloads)
        answer = self._call(self._stub.GetInstance, request, timeout)
        return _status(instance_id, answer)

    def end(self, instance_id: str, seconds: float) -> RunStatus | None:
        """The workflow's state once it has ended, or None where there is none of that id."""
        request = pb.GetInstanceRequest(instanceId=instance_id, getInputsAndOutputs=True)
        return _status(instance_id, self._call(self._stub.WaitForInstanceCompletion, request, seconds))

    async def ended(self, instance_id: str, seconds: float) -> RunStatus | None:
        """As `end`, without blocking the event loop."""
        request = pb.GetInstanceRequest(instanceId=instance_id, getInputsAndOutputs=True)
        waiting = self._stub.WaitForInstanceCompletion.future(request, timeout=seconds, metadata=self._metadata)
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def wake(_: object) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(done.set)

        waiting.add_done_callback(wake)
        try:
            await done.wait()
        finally:
            waiting.cancel()

        def answer(*_: object, **options: object) -> Any:
            return waiting.result()

        return _status(instance_id, self._call(answer, request, seconds))

    def app_id(self, timeout: float) -> str:
        """Whose sidecar this is."""
        return str(self._call(self._dapr.GetMetadata, runtime.GetMetadataRequest(), timeout).id)

    def instance_ids(self, timeout: float) -> Iterator[str]:
        """The ids of all workflows, asked for page by page."""
        token = ""
        while True:
            request = pb.ListInstanceIDsRequest(continuationToken=token or None)
            answer = self._call(self._stub.ListInstanceIDs, request, timeout)
            yield from answer.instanceIds
            token = answer.continuationToken
            if not token:
                return

    def raise_event(self, instance_id: str, name: str, value: JsonValue, timeout: float) -> None:
        """Raise an external event, without data where `value` is None."""
        data = None if value is None else StringValue(value=json.dumps(value))
        self._call(self._stub.RaiseEvent, pb.RaiseEventRequest(instanceId=instance_id, name=name, input=data), timeout)

    def terminate(self, instance_id: str, timeout: float) -> None:
        """End a workflow and its children."""
        self._call(self._stub.TerminateInstance, pb.TerminateRequest(instanceId=instance_id, recursive=True), timeout)

    def history(self, instance_id: str, timeout: float) -> list[HistoryEvent]:
        """A workflow's events, in order, with inputs and results."""
        return [history_event(number, event) for number, event in enumerate(self._events(instance_id, timeout))]

    def recorded(self, instance_id: str, timeout: float) -> list[bytes]:
        """The same as protobuf; equal to the state store's bytes in meaning, not byte by byte."""
        return [event.SerializeToString() for event in self._events(instance_id, timeout)]

    def rerun(self, instance_id: str, task_id: int, new_instance_id: str, timeout: float) -> None:
        """Start a copy of an ended workflow's history up to a task, which is executed again, and what follows it.

        Raises RunExistsError where the new id is taken, and ValueError where the workflow can't be rerun from there.
        """
        request = pb.RerunWorkflowFromEventRequest(
            sourceInstanceID=instance_id, eventID=task_id, newInstanceID=new_instance_id
        )
        try:
            self._call(self._stub.RerunWorkflowFromEvent, request, timeout)
        except WorkflowUnavailableError as error:
            cause = error.__cause__
            if isinstance(cause, grpc.RpcError) and cause.code() in _REFUSED:
                raise ValueError(f"run {instance_id} can't be rerun from there: {cause.details()}") from error
            raise

    def saved(self, instance_id: str, timeout: float) -> Saved | None:
        """How far a workflow's saved history goes, as its driver wrote; None where there is no workflow of that id.

        The workflow's actor answers from memory, once the turn that it is at has been saved or dropped.
        """
        request = pb.GetInstanceRequest(instanceId=instance_id, getInputsAndOutputs=True)
        try:
            answer = self._call(self._stub.WaitForInstanceStart, request, timeout)
        except WorkflowUnavailableError as error:
            cause = error.__cause__
            if isinstance(cause, grpc.RpcError) and cause.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise
        if not answer.exists:
            return None
        state = answer.workflowState
        return Saved.parse(state.customStatus.value, _STATUS.get(state.workflowStatus, "running") in TERMINAL)

    def tasks(self, instance_id: str, timeout: float) -> Tasks:
        """The tasks of a workflow's saved history."""
        scheduled, answered = dict[int, str](), set[int]()
        for event in self._events(instance_id, timeout):
            match event.WhichOneof("eventType"):
                case "taskScheduled":
                    scheduled[event.eventId] = event.taskScheduled.taskExecutionId
                case "taskCompleted":
                    answered.add(event.taskCompleted.taskScheduledId)
                case "taskFailed":
                    answered.add(event.taskFailed.taskScheduledId)
                case _:
                    pass
        return Tasks(scheduled, frozenset(answered))

    def save_state(self, store: str, key: str, value: bytes, timeout: float) -> None:
        """Write a value of the app's own to a state store."""
        item = common.StateItem(key=key, value=value)
        self._call(self._dapr.SaveState, runtime.SaveStateRequest(store_name=store, states=[item]), timeout)

    def read_state(self, store: str, key: str, timeout: float) -> bytes | None:
        """A value of the app's own, or None where there is none."""
        answer = self._call(self._dapr.GetState, runtime.GetStateRequest(store_name=store, key=key), timeout)
        return bytes(answer.data) or None

    def delete_state(self, store: str, key: str, timeout: float) -> None:
        """Remove a value of the app's own."""
        self._call(self._dapr.DeleteState, runtime.DeleteStateRequest(store_name=store, key=key), timeout)

    def state_stores(self, timeout: float) -> list[str]:
        """The names of the sidecar's state stores that can hold workflows."""
        answer = self._call(self._dapr.GetMetadata, runtime.GetMetadataRequest(), timeout)
        return [one.name for one in answer.registered_components if "ACTOR" in one.capabilities]

    def purge(self, instance_id: str, timeout: float) -> None:
        """Remove an ended workflow and its children from the state store."""
        request = pb.PurgeInstancesRequest(instanceId=instance_id, recursive=True)
        self._call(self._stub.PurgeInstances, request, timeout)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _events(self, instance_id: str, timeout: float) -> Any:
        request = pb.GetInstanceHistoryRequest(instanceId=instance_id)
        return self._call(self._stub.GetInstanceHistory, request, timeout).events

    def _call(self, method: Any, request: Any, timeout: float) -> Any:
        deadline = time.monotonic() + timeout
        while True:
            try:
                return method(request, timeout=max(deadline - time.monotonic(), 0), metadata=self._metadata)
            except grpc.RpcError as error:
                code, details = error.code(), error.details() or ""
                if code == grpc.StatusCode.ALREADY_EXISTS or "already exists" in details:
                    raise RunExistsError(details) from error
                if _NOT_SIGNED in details:
                    raise HistoryTamperedError(details[:300]) from error
                if _HALF_READ not in details or time.monotonic() + READ_AGAIN_SECONDS > deadline:
                    raise WorkflowUnavailableError(f"the sidecar answered {code.name}: {details[:300]}") from error
                time.sleep(READ_AGAIN_SECONDS)


class SidecarValues:
    """The app's own values in the sidecar's state store: `store`, or the only one that can hold workflows.

    Every call ends within `timeout` (seconds). Raises WorkflowUnavailableError, and ValueError where there is more
    than one such store and none was named.
    """

    def __init__(self, hub: TaskHub, store: str | None, timeout: float) -> None:
        self._hub, self._store, self._timeout = hub, store, timeout

    def write(self, key: str, value: bytes) -> None:
        self._hub.save_state(self._name(), key, value, self._timeout)

    def read(self, key: str) -> bytes | None:
        return self._hub.read_state(self._name(), key, self._timeout)

    def delete(self, key: str) -> None:
        self._hub.delete_state(self._name(), key, self._timeout)

    def _name(self) -> str:
        if self._store is None:
            names = self._hub.state_stores(self._timeout)
            if len(names) != 1:
                raise ValueError(f"the sidecar has the state stores {names}; name one of them with state_store=…")
            self._store = names[0]
        return self._store


def _status(instance_id: str, answer: Any) -> RunStatus | None:
    if not answer.exists:
        return None
    state = answer.workflowState
    return RunStatus(
        run_id=instance_id,
        workflow=state.name,
        status=_STATUS.get(state.workflowStatus, "running"),
        created_at=time_of(state.createdTimestamp),
        updated_at=time_of(state.lastUpdatedTimestamp),
        output=json_of(state.output.value) if state.HasField("output") else None,
        error=failure_of(state.failureDetails) if state.HasField("failureDetails") else None,
    )
