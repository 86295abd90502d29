"""History events as the engine recorded them (protobuf), and what a reader sees of them."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportUnknownParameterType=false, reportMissingTypeStubs=false
# pyright: reportPrivateUsage=false
from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import dapr.ext.workflow._durabletask.internal.protos as pb
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import JsonValue

from pydantic_ai_dapr.types import HistoryEvent, RunError


def parse(recorded: bytes) -> Any:
    """The protobuf event. Raises ValueError where the bytes are none."""
    try:
        return pb.HistoryEvent.FromString(recorded)
    except Exception as error:
        raise ValueError(f"not a history event: {error}") from error


def readable(recorded: Sequence[bytes]) -> list[HistoryEvent]:
    """The events for a reader, numbered from 0. Raises ValueError where bytes are no event."""
    return [history_event(number, parse(one)) for number, one in enumerate(recorded)]


def history_event(number: int, event: Any) -> HistoryEvent:
    """What a reader sees of a protobuf event."""
    kind = event.WhichOneof("eventType") or "unknown"
    body = getattr(event, kind, None)
    fields = {field.name for field, _ in body.ListFields()} if body is not None else set[str]()
    task = "taskScheduledId" if "taskScheduledId" in fields else "timerId" if "timerId" in fields else None
    return HistoryEvent(
        sequence=number,
        type=kind,
        timestamp=time_of(event.timestamp),
        task_id=getattr(body, task) if task else event.eventId if event.eventId >= 0 else None,
        name=getattr(body, "name", None) or None,
        input=json_of(body.input.value) if body is not None and "input" in fields else None,
        result=json_of(body.result.value) if body is not None and "result" in fields else None,
        error=failure_of(body.failureDetails) if body is not None and "failureDetails" in fields else None,
        instance_id=event.childWorkflowInstanceCreated.instanceId if kind == "childWorkflowInstanceCreated" else None,
        due=time_of(event.timerCreated.fireAt) if kind == "timerCreated" and "externalEvent" not in fields else None,
    )


def time_of(value: Timestamp) -> datetime:
    """A protobuf time as UTC."""
    return value.ToDatetime(tzinfo=UTC)


def json_of(text: str) -> JsonValue:
    """A payload's value; the text itself where it isn't JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def failure_of(details: Any) -> RunError:
    """A failure's type and message."""
    return RunError(type=details.errorType or "unknown", message=details.errorMessage)
