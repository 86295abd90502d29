"""Starts, follows and recovers runs of an agent; needs no code of the agent's."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count, islice
from typing import Any, Literal

from pydantic import JsonValue, TypeAdapter, ValidationError

from pydantic_ai_dapr.export import Export, Remembered, StateStore, Stored
from pydantic_ai_dapr.history import steps
from pydantic_ai_dapr.journal import PAYLOAD, Journal, whole_history
from pydantic_ai_dapr.payloads import Payloads
from pydantic_ai_dapr.taskhub import SidecarValues, TaskHub
from pydantic_ai_dapr.types import (
    RECOVER,
    HistoryEvent,
    RunEvent,
    RunExistsError,
    RunInput,
    RunStatus,
    Status,
    WorkflowUnavailableError,
)

log = logging.getLogger(__name__)

STATE_SECONDS = 10.0
ASK_AT_ONCE = 8


def workflow_name(agent_name: str) -> str:
    """The name under which an agent is registered with the workflow engine."""
    return f"pydantic_ai_dapr.{agent_name}"


class AgentRunClient:
    """Every call ends within its timeout (seconds), or raises WorkflowUnavailableError: then its effect is unknown.

    The workflow's instance id is the run id. What is too large for the engine goes to the state store `state_store`
    (default: the sidecar's only one that can hold workflows). Safe to use from several threads.
    """

    def __init__(
        self,
        name: str,
        *,
        host: str = "127.0.0.1",
        port: int,
        api_token: str | None = None,
        timeout: float = 5.0,
        state_store: str | None = None,
    ) -> None:
        self._name, self._timeout = workflow_name(name), timeout
        self.hub = TaskHub(host, port, api_token)
        self._values = SidecarValues(self.hub, state_store, STATE_SECONDS)
        self.payloads = Payloads(self._values)
        self._journal = Journal(self.payloads, self._events)

    def start(self, run_id: str, run_input: RunInput, *, timeout: float | None = None) -> None:
        """Start a run; starting one that exists already changes nothing."""
        with suppress(RunExistsError):
            self.start_new(run_id, run_input, timeout=timeout)

    def start_new(
        self, run_id: str, run_input: RunInput, *, timeout: float | None = None, unique: bool = False
    ) -> None:
        """Start a run. Raises RunExistsError where the id is taken, and PayloadTooLargeError.

        An id that was made up just now is `unique`: nobody asks whether it is taken.
        """
        value = run_input.model_dump(mode="json", exclude_defaults=True)
        packed = self.payloads.offload(run_id, value)
        start = (
            value if packed is value else {"run_id": run_input.run_id, "version": run_input.version, PAYLOAD: packed}
        )
        self.hub.start(run_id, self._name, start, timeout or self._timeout, unique=unique)

    def status(self, run_id: str, *, payloads: bool = True) -> RunStatus | None:
        """The run's state, or None where no workflow of that id exists. Without `payloads` there is no output."""
        status = self.hub.status(run_id, self._timeout, payloads=payloads)
        if status is None or status.output is None:
            return status
        return status.model_copy(update={"output": self.payloads.resolve(status.output)})

    def run_ids(self, status: Sequence[Status] | None = None) -> Iterator[str]:
        """The ids of all runs that the state store has, of any agent; with `status`, of those in one of these states.

        Asks the sidecar once for each page, and once for each run where a state is asked for.
        """
        for run_id in self.hub.instance_ids(self._timeout):
            if status is None:
                yield run_id
                continue
            seen = self.hub.status(run_id, self._timeout, payloads=False)
            if seen is not None and seen.status in status:
                yield run_id

    def runs(self, status: Sequence[Status] | None = None) -> Iterator[RunStatus]:
        """This agent's runs that the state store has, in no order, without outputs; with `status`, those in one of it.

        The sidecar lists ids alone, so every run is asked for, `ASK_AT_ONCE` at a time.
        """

        def ask(run_id: str) -> RunStatus | None:
            return self.hub.status(run_id, self._timeout, payloads=False)

        with ThreadPoolExecutor(ASK_AT_ONCE) as pool:
            ids = self.run_ids()
            while page := list(islice(ids, ASK_AT_ONCE)):
                for found in pool.map(ask, page):
                    if found is not None and found.workflow == self._name and (not status or found.status in status):
                        yield found

    def recover(self, run_id: str, token: str | None = None) -> None:
        """Make the run issue its open operations again, after wake-ups were lost: once for each token.

        Without a token every call does so; an operation that was not lost is then executed beside itself.
        """
        self.hub.raise_event(run_id, RECOVER, token, self._timeout)

    def wake_child(self, run_id: str, workflow: str, value: JsonValue, token: JsonValue) -> dict[str, Any]:
        """Recover a child, or start it where its creation was lost. An ended one's output or error is returned."""
        status = self.hub.status(run_id, self._timeout)
        if status is None:
            with suppress(RunExistsError):
                self.hub.start(run_id, workflow, value, self._timeout)
            return {"orphan": True}
        if status.is_terminal:
            error = status.error.model_dump() if status.error else {"type": "Terminated", "message": status.status}
            return {"output": status.output} if status.status == "completed" else {"error": error}
        self.hub.raise_event(run_id, RECOVER, token, self._timeout)
        return {}

    def resolve(self, token: str, payload: JsonValue) -> None:
        """Give the run that waits with this token its answer; the first answer counts. Raises ValueError."""
        self._answer(token, {"payload": payload})

    def fail(self, token: str, reason: str) -> None:
        """Tell the run that waits with this token that no answer will come. Raises ValueError."""
        self._answer(token, {"error": reason})

    def approve(
        self,
        run_id: str,
        tool_call_id: str,
        *,
        approved: bool = True,
        override_args: dict[str, JsonValue] | None = None,
        message: str | None = None,
        who: str | None = None,
    ) -> None:
        """Decide a tool call that waits for approval (`WaitForApproval`); the first decision counts.

        `override_args` replaces the arguments of an approved call, `message` is what the model is told of a denied
        one, and `who` decided is kept in the history. A decision that comes before the question is kept for it.
        """
        value: dict[str, JsonValue] = {"kind": "tool-approved", "override_args": override_args}
        if not approved:
            value = {"kind": "tool-denied", "message": message or "The tool call was denied."}
        if who is not None:
            value["who"] = who
        self.hub.raise_event(run_id, approval_event(tool_call_id), value, self._timeout)

    def terminate(self, run_id: str) -> None:
        """End the run; tools that run at this moment are cancelled, what they did is not undone."""
        self.hub.terminate(run_id, self._timeout)

    def purge(self, run_id: str) -> None:
        """Remove an ended run from the state store, with what was kept beside its history. Raises ValueError."""
        self._demand_ended(run_id, "removed")
        self._journal.delete(run_id, self._events(run_id))
        self.hub.purge(run_id, self._timeout)

    def history(self, run_id: str) -> list[HistoryEvent]:
        """The run's events since it began, in order, with inputs and results."""
        return whole_history(self._events(run_id), self.payloads)

    def export(self, run_id: str, store: StateStore | None = None) -> Export:
        """The run's history as it is now, to be saved and replayed; verified too, where its `store` is read.

        Raises PayloadLostError where something that it refers to isn't in the state store any more.
        """
        recorded = self.hub.recorded(run_id, self._timeout)
        stored = store.stored(run_id, len(recorded)) if store else Stored(recorded, [], [])
        beside = Remembered(source=self._values)
        export = Export.of(run_id, stored.events, stored.signatures, stored.certificates)
        whole_history(export.events, Payloads(beside))
        return export.model_copy(update={"payloads": dict(beside)})

    def rerun(self, run_id: str, *, step: int | None = None, fresh: bool = False) -> str:
        """Run an ended run again beside the old one, and return the new instance id, `<run id>~2` or the next free.

        The logical run id stays, and with it every operation's idempotency key: a target that has applied an effect
        answers as it did the first time and applies nothing twice, also where the model now asks for something else.
        `fresh` gives the rerun a logical id of its own, so that its effects are applied again.

        Without `step` everything is executed again. With it, the operations that were answered before operation
        `step` was first issued keep their answers and are not executed; that one and what follows is. Of a run in
        segments only the last can be run again from a step, and only while the old run isn't purged. Raises
        ValueError where the run has not ended or has no such operation, or where `fresh` is asked of a rerun from a
        step: the answers that it keeps belong to the old id's effects.
        """
        if fresh and step is not None:
            raise ValueError("a rerun from a step keeps the logical run id; leave `step` out for a fresh one")
        events = self._events(run_id)
        task = None if step is None else _task_of(run_id, step, events)
        self._demand_ended(run_id)
        started: Any = next(event for event in events if event.type == "executionStarted").input
        run_input = run_input_of(started, self.payloads)
        first, _, last = run_id.rpartition("~")
        root, number = (first, int(last)) if first and last.isdigit() else (run_id, 1)
        for new_id in (f"{root}~{one}" for one in count(number + 1)):
            try:
                if task is None:
                    self.start_new(new_id, run_input.model_copy(update={"run_id": new_id}) if fresh else run_input)
                else:
                    self.hub.rerun(run_id, task, new_id, self._timeout)
            except RunExistsError:
                continue
            return new_id
        raise AssertionError("there is always a next number")

    def task_of(self, run_id: str, step: int) -> int:
        """The engine's task of the operation from which an ended run is to be run again.

        Raises ValueError, which says why, where it can't be: see `rerun`.
        """
        self._demand_ended(run_id)
        return _task_of(run_id, step, self._events(run_id))

    def rerun_from(self, run_id: str, step: int, new_id: str) -> None:
        """Run an ended run again from operation `step` under the instance id `new_id`, as `rerun` does.

        Where that exists already this changes nothing. Raises ValueError.
        """
        with suppress(RunExistsError):
            self.hub.rerun(run_id, self.task_of(run_id, step), new_id, self._timeout)

    def follow(self, run_id: str, poll_interval: float = 0.1) -> Iterator[RunEvent]:
        """What the run does, from its beginning to its end: each operation's start and end, once, then the run's.

        Asks every `poll_interval` seconds. It goes on wherever the run goes on: in another process, or region.
        """
        told: set[tuple[str, int, int]] = set()
        while True:
            try:
                status = self.status(run_id)
                events = operations_of(self.history(run_id)) if status is not None else []
            except WorkflowUnavailableError as error:
                log.info("run %s: asking again: %s", run_id, error)
                time.sleep(poll_interval)
                continue
            for event in events:
                key = (event.type, event.ordinal or 0, event.attempt or 0)
                if key not in told:
                    told.add(key)
                    yield event
            if status is not None and status.is_terminal:
                kind: Any = f"run_{status.status}"
                yield RunEvent(type=kind, run_id=run_id, at=status.updated_at, output=status.output, error=status.error)
                return
            time.sleep(poll_interval)

    def close(self) -> None:
        """Close the connection."""
        self.hub.close()

    def _demand_ended(self, run_id: str, what: str = "run again") -> None:
        status = self.hub.status(run_id, self._timeout, payloads=False)
        if status is None or not status.is_terminal:
            state = status.status if status else "unknown"
            raise ValueError(f"run {run_id} is {state}; only a run that has ended can be {what}")

    def _answer(self, token: str, value: dict[str, JsonValue]) -> None:
        run_id, event = event_of(token)
        self.hub.raise_event(run_id, event, value, self._timeout)

    def _events(self, run_id: str) -> list[HistoryEvent]:
        return self.hub.history(run_id, self._timeout)


def _task_of(run_id: str, step: int, events: list[HistoryEvent]) -> int:
    # The engine gives a child's rerun an id of its own making, which the run doesn't know.
    found = {one.ordinal: one.task_id for one in reversed(steps(events)) if one.kind != "child"}
    if step not in found:
        told = f"{min(found)} to {max(found)}" if found else "none"
        raise ValueError(f"run {run_id} can't be run again from operation {step}; its last segment has {told}")
    return found[step]


def run_input_of(start: dict[str, Any], payloads: Any) -> RunInput:
    """The run's input, out of the workflow's. `payloads` resolves what is kept beside the history."""
    value = payloads.resolve(start[PAYLOAD]) if PAYLOAD in start else start
    return RunInput.model_validate({key: one for key, one in value.items() if key != "continued"})


def token_of(run_id: str, event: str) -> str:
    """A token with which the run's wait for `event` can be answered."""
    return base64.urlsafe_b64encode(json.dumps([run_id, event]).encode()).decode().rstrip("=")


def event_of(token: str) -> tuple[str, str]:
    """The run id and event of a token. Raises ValueError where it isn't one."""
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        return TypeAdapter(tuple[str, str]).validate_json(text)
    except (ValueError, ValidationError) as error:
        raise ValueError("this is not the token of a run that waits") from error


def approval_event(tool_call_id: str) -> str:
    """The external event that decides a tool call."""
    return f"approval:{tool_call_id}"


def operations_of(events: list[HistoryEvent]) -> list[RunEvent]:
    """The starts and ends of operations in a history, in their order."""
    found: list[RunEvent] = []
    scheduled: dict[tuple[int, int | None], dict[str, Any]] = {}
    execution = 0
    for event in events:
        execution += event.type == "executionStarted"
        key = (execution, event.task_id)
        phase: Literal["operation_started", "operation_completed", "operation_failed", "operation_asleep"]
        if event.type == "taskScheduled" and isinstance(event.input, dict) and "ordinal" in event.input:
            scheduled[key] = event.input
            phase, output, error = "operation_started", None, None
        elif event.type in ("taskCompleted", "taskFailed") and key in scheduled:
            answer: Any = event.result if isinstance(event.result, dict) else {}
            failed = event.type == "taskFailed" or "err" in answer
            phase = "operation_failed" if failed else "operation_asleep" if "sleep" in answer else "operation_completed"
            output, error = answer.get("ok"), answer.get("err") or event.error
        else:
            continue
        operation = scheduled[key]
        found.append(
            RunEvent(
                type=phase,
                run_id=operation["run"],
                at=event.timestamp,
                ordinal=operation["ordinal"],
                kind=operation["kind"],
                name=operation["name"],
                attempt=operation["attempt"],
                output=output,
                error=error,
            )
        )
    return found
