"""Errors cross as values and keep their type; which of them are tried again, and when."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from pydantic_ai.exceptions import (
    FallbackExceptionGroup,
    ModelAPIError,
    ModelHTTPError,
    ModelRateLimitError,
    ModelUnavailableError,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
)
from pydantic_ai_dapr import OperationFailedError, Retry, WorkflowUnavailableError
from pydantic_ai_dapr.errors import ErrorValue, judge, rebuild, to_value

pytestmark = pytest.mark.unit


class OwnError(Exception):
    """An application's own error."""


@pytest.mark.parametrize(
    "error",
    [
        UnexpectedModelBehavior("odd answer"),
        UsageLimitExceeded("too many requests"),
        ConnectionError("refused"),
        TimeoutError("late"),
        ValueError("wrong"),
        PermissionError("no"),
    ],
)
def test_a_known_error_comes_out_as_the_type_that_it_was(error: Exception) -> None:
    again = rebuild(ErrorValue.model_validate_json(to_value(error).model_dump_json()))
    assert type(again) is type(error)
    assert str(again) == str(error)


def test_a_model_servers_error_keeps_status_model_and_body() -> None:
    again = rebuild(to_value(ModelHTTPError(529, "model-x", {"error": "overloaded"})))
    assert isinstance(again, ModelHTTPError)
    assert (again.status_code, again.model_name, again.body) == (529, "model-x", {"error": "overloaded"})


@pytest.mark.parametrize(("status", "category"), [(429, ModelRateLimitError), (503, ModelUnavailableError)])
def test_a_model_servers_error_comes_out_in_its_category(
    status: int, category: type[ModelRateLimitError | ModelUnavailableError]
) -> None:
    error = ModelHTTPError.for_category(category, status_code=status, model_name="model-x")
    again = rebuild(ErrorValue.model_validate_json(to_value(error).model_dump_json()))
    assert isinstance(again, category)
    assert isinstance(again, ModelHTTPError)
    assert str(again) == str(error)


def test_the_failure_of_every_model_may_pass_where_one_of_them_may_and_as_soon_as_that() -> None:
    failures = [
        ModelHTTPError(429, "model-x", None, headers={"retry-after": "7"}),
        ModelHTTPError(503, "model-y", None, headers={"retry-after": "2"}),
        ModelHTTPError(401, "model-z", None),
    ]
    value = to_value(FallbackExceptionGroup("All models failed", failures))
    assert (value.retryable, value.retry_after) == (True, 2.0)
    assert not to_value(FallbackExceptionGroup("All models failed", failures[2:])).retryable
    soon = [*failures, ModelAPIError("model-a", "the connection broke")]
    assert to_value(FallbackExceptionGroup("All models failed", soon)).retry_after is None


def test_a_body_that_is_no_json_is_kept_as_text() -> None:
    again = rebuild(to_value(ModelHTTPError(500, "model-x", object())))
    assert isinstance(again, ModelHTTPError)
    assert "object object" in str(again.body)


def test_a_model_api_error_keeps_its_model() -> None:
    again = rebuild(to_value(ModelAPIError("model-x", "connection broke")))
    assert isinstance(again, ModelAPIError)
    assert (again.model_name, again.message) == ("model-x", "connection broke")


def test_an_applications_own_error_comes_out_as_itself() -> None:
    again = rebuild(to_value(OwnError("broken")))
    assert type(again) is OwnError
    assert str(again) == "broken"


def test_an_error_that_cannot_be_made_again_is_told_with_its_type() -> None:
    class LocalError(Exception): ...

    for error in (LocalError("broken"), json.JSONDecodeError("broken", "", 0)):
        again = rebuild(to_value(error))
        assert type(again) is OperationFailedError
        assert str(again) == f"{type(error).__name__}: {error}"


def test_what_an_operation_knows_of_its_error_counts_more_than_the_type() -> None:
    error = ConnectionError("lost")
    judge(error, retryable=False, retry_after=3.0)
    value = to_value(error)
    assert (value.retryable, value.retry_after) == (False, 3.0)


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (ModelHTTPError(429, "m"), True),
        (ModelHTTPError(503, "m"), True),
        (ModelHTTPError(400, "m"), False),
        (ModelHTTPError(401, "m"), False),
        (ModelAPIError("m", "connection broke"), True),
        (httpx.ConnectError("refused"), True),
        (WorkflowUnavailableError("no answer"), True),
        (TimeoutError("late"), True),
        (ValueError("wrong"), False),
        (OwnError("broken"), False),
    ],
)
def test_what_may_pass_is_tried_again(error: Exception, retryable: bool) -> None:
    assert to_value(error).retryable is retryable
    assert (Retry().delay(1, to_value(error)) is not None) is retryable


def test_pauses_grow_up_to_the_longest_and_end_with_the_last_attempt() -> None:
    retry = Retry(attempts=5, first_seconds=1.0, factor=3.0, longest_seconds=10.0)
    value = to_value(TimeoutError("late"))
    assert [retry.delay(attempt, value) for attempt in range(1, 6)] == [1.0, 3.0, 9.0, 10.0, None]


@pytest.mark.parametrize(("header", "pause"), [("7", 7.0), ("0.1", 0.5), ("9999", 60.0), ("soon", 0.5)])
def test_retry_after_counts_where_it_is_longer(header: str, pause: float) -> None:
    error = ModelHTTPError(429, "m", headers={"retry-after": header})
    assert Retry().delay(1, to_value(error)) == pause


@pytest.mark.parametrize(
    ("said", "low", "high"), [("1.5", 1.5, 1.5), ("in a minute", 50, 60), ("long ago", 0, 0), ("soon", None, None)]
)
def test_a_retry_after_is_seconds_or_a_date(said: str, low: float | None, high: float | None) -> None:
    dates = {"in a minute": timedelta(seconds=60), "long ago": timedelta(days=-1)}
    text = format_datetime(datetime.now(UTC) + dates[said], usegmt=True) if said in dates else said
    seconds = to_value(ModelHTTPError(429, "m", headers={"retry-after": text})).retry_after
    assert seconds == low if seconds is None or low is None else low <= seconds <= (high or 0)


def test_a_group_of_errors_keeps_its_type_and_those_in_it() -> None:
    group = FallbackExceptionGroup("all of them", [ModelHTTPError(503, "a"), ModelHTTPError(404, "b")])
    value = to_value(group)
    assert not to_value(ExceptionGroup("all of them", group.exceptions)).retryable
    assert to_value(ExceptionGroup("all", [ModelHTTPError(503, "a")])).retryable
    again = rebuild(ErrorValue.model_validate_json(value.model_dump_json()))
    assert isinstance(again, FallbackExceptionGroup)
    assert str(again) == str(group)
    assert [str(one) for one in again.exceptions] == [str(one) for one in group.exceptions]
