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
    FallbackExceptionGroup,
    ModelAPIError,
    ModelAuthenticationError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelOverloadedError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelServerError,
    ModelUnavailableError,
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

_CATEGORIES = {
    error.__name__: error
    for error in (
        ModelAuthenticationError,
        ModelContextWindowExceededError,
        ModelNotFoundError,
        ModelOverloadedError,
        ModelQuotaExceededError,
        ModelRateLimitError,
        ModelRequestRejectedError,
        ModelServerError,
        ModelUnavailableError,
    )
}
"""What else an error of a model's server is, by its status or body."""


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
    errors: tuple[ErrorValue, ...] | None = None
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
        return _of_all(cast("ExceptionGroup[Exception]", error))
    retryable = isinstance(error, _MAY_PASS)
    module = None if kind in _BY_MESSAGE else type(error).__module__
    return ErrorValue(type=kind, message=str(error), retryable=retryable, module=module)


def _of_all(group: ExceptionGroup[Exception]) -> ErrorValue:
    """What failed together may pass where all of it may; of models in each other's place, where one may."""
    each = tuple(to_value(error) for error in group.exceptions)
    waits = [one.retry_after or 0.0 for one in each if one.retryable]
    alternatives = isinstance(group, FallbackExceptionGroup)
    return ErrorValue(
        type=type(group).__name__,
        message=group.message,
        retryable=bool(waits) if alternatives else len(waits) == len(each),
        retry_after=(min if alternatives else max)(waits, default=0.0) or None,
        module=type(group).__module__,
        errors=each,
    )


def rebuild(value: ErrorValue) -> Exception:
    """The exception that `value` was made from; `OperationFailedError` where its type isn't known here."""
    if value.status is not None:
        return ModelHTTPError.for_category(
            _CATEGORIES.get(value.type),
            status_code=value.status,
            model_name=value.model or "unknown",
            body=value.body,
        )
    if value.type == "ModelAPIError":
        return ModelAPIError(value.model or "unknown", value.message)
    if known := _BY_MESSAGE.get(value.type):
        return known(value.message)
    kind = getattr(sys.modules.get(value.module or ""), value.type, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        with suppress(Exception):
            if issubclass(kind, ExceptionGroup):
                return kind(value.message, [rebuild(one) for one in value.errors or ()])  # pyright: ignore[reportUnknownVariableType]
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
