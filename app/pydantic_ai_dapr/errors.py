"""Errors cross the workflow as values, and come out as the type that they were."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import cast

import httpx
from pydantic import BaseModel, ConfigDict, JsonValue
from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelHTTPError,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
    UserError,
)
from pydantic_core import PydanticSerializationError, to_jsonable_python

from pydantic_ai_dapr.types import WorkflowUnavailableError

RETRYABLE_STATUS = frozenset({408, 409, 425, 429})
_BY_MESSAGE: dict[str, type[Exception]] = {
    error.__name__: error
    for error in (
        AgentRunError,
        UnexpectedModelBehavior,
        UsageLimitExceeded,
        UserError,
        ConnectionError,
        TimeoutError,
        ValueError,
        TypeError,
        KeyError,
        RuntimeError,
        PermissionError,
    )
}


_MAY_PASS = (ConnectionError, TimeoutError, asyncio.TimeoutError, httpx.TransportError, WorkflowUnavailableError)


class DroppedWorkError(BaseException):
    """Ends a work item without an answer, where its worker leaves: the engine gives it to another one."""


class OperationFailedError(Exception):
    """An operation failed with an error whose type this process doesn't have, or can't make: `type: message`."""


class ToolDeniedError(Exception):
    """The access policy of the app that hosts a tool denied its call."""


VERDICT = "_pydantic_ai_dapr_verdict"


def judge(error: Exception, *, retryable: bool, retry_after: float | None = None) -> None:
    """Note on an exception what its operation knows better than its type: whether, and after how many seconds, to try
    again."""
    setattr(error, VERDICT, {"retryable": retryable, "retry_after": retry_after})


class ErrorValue(BaseModel):
    """An exception as data. `retry_after` is in seconds. `module` is where the type is defined."""

    model_config = ConfigDict(frozen=True)

    type: str
    message: str
    retryable: bool
    status: int | None = None
    model: str | None = None
    body: JsonValue = None
    retry_after: float | None = None
    module: str | None = None
    errors: tuple[ErrorValue, ...] = ()
    """Those of a group."""


def to_value(error: BaseException) -> ErrorValue:
    """The exception as a value that `rebuild` turns into the same type again."""
    return _to_value(error).model_copy(update=getattr(error, VERDICT, {}))


def _to_value(error: BaseException) -> ErrorValue:
    kind = type(error).__name__
    if isinstance(error, ModelHTTPError):
        try:
            body = to_jsonable_python(error.body)
        except PydanticSerializationError:
            body = str(error.body)
        return ErrorValue(
            type=kind,
            message=str(error),
            retryable=error.status_code in RETRYABLE_STATUS or error.status_code >= 500,
            status=error.status_code,
            model=error.model_name,
            body=body,
            retry_after=_retry_after(error),
        )
    if isinstance(error, ModelAPIError):
        return ErrorValue(type=kind, message=error.message, retryable=True, model=error.model_name)
    if isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        inner = tuple(to_value(one) for one in group.exceptions)
        may_pass = all(one.retryable for one in inner)
        return ErrorValue(
            type=kind, message=group.message, retryable=may_pass, module=type(group).__module__, errors=inner
        )
    retryable = isinstance(error, _MAY_PASS)
    module = None if kind in _BY_MESSAGE else type(error).__module__
    return ErrorValue(type=kind, message=str(error), retryable=retryable, module=module)


def rebuild(value: ErrorValue) -> Exception:
    """The exception that `value` was made from; `OperationFailedError` where its type isn't known here."""
    if value.type == "ModelHTTPError" and value.status is not None:
        return ModelHTTPError(value.status, value.model or "unknown", value.body)
    if value.type == "ModelAPIError":
        return ModelAPIError(value.model or "unknown", value.message)
    if known := _BY_MESSAGE.get(value.type):
        return known(value.message)
    kind = getattr(sys.modules.get(value.module or ""), value.type, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        with suppress(Exception):
            if issubclass(kind, ExceptionGroup):
                return kind(value.message, [rebuild(one) for one in value.errors])  # pyright: ignore[reportUnknownVariableType]
            error = kind(value.message)
            if str(error) == value.message:
                return error
    return OperationFailedError(f"{value.type}: {value.message}")


def _retry_after(error: ModelHTTPError) -> float | None:
    """In seconds, whether the provider says it so or as a date."""
    text = (error.headers or {}).get("retry-after", "")
    if text.replace(".", "", 1).isdigit():
        return float(text)
    with suppress(ValueError, TypeError):
        return max((parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds(), 0.0)
    return None
