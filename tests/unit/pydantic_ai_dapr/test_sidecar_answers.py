"""What a sidecar refuses for good is told from what may pass."""

from __future__ import annotations

from typing import NoReturn

import grpc
import pytest
from pydantic_ai_dapr import HistoryTamperedError, RunExistsError, WorkflowUnavailableError
from pydantic_ai_dapr.taskhub import TaskHub

pytestmark = pytest.mark.unit


class Answer(grpc.RpcError):
    """An error as gRPC gives it."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


@pytest.mark.parametrize(
    ("code", "details", "error"),
    [
        (grpc.StatusCode.UNKNOWN, "workflow history signature verification failed for 'run-1'", HistoryTamperedError),
        (grpc.StatusCode.UNKNOWN, "a workflow with ID 'run-1' already exists", RunExistsError),
        (grpc.StatusCode.UNAVAILABLE, "connection refused", WorkflowUnavailableError),
    ],
)
def test_an_error_of_the_sidecar_has_its_type(code: grpc.StatusCode, details: str, error: type[Exception]) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise Answer(code, details)

    hub = TaskHub("127.0.0.1", 1, None)
    with pytest.raises(error) as raised:
        hub._call(refuse, None, 1.0)
    assert type(raised.value) is error
    hub.close()
