"""The operation that is being executed, for tools that carry its idempotency key to the outside world."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from pydantic_ai_dapr.types import Operation

_current: ContextVar[Operation | None] = ContextVar("pydantic_ai_dapr.operation", default=None)


def current_operation() -> Operation:
    """The running operation, inside a tool or model request of a durable run. Raises RuntimeError elsewhere."""
    operation = _current.get()
    if operation is None:
        raise RuntimeError("no durable operation is running here; call this from a tool of an agent that runs durably")
    return operation


@contextmanager
def operation_scope(operation: Operation) -> Generator[None]:
    """Make `operation` the current one."""
    token = _current.set(operation)
    try:
        yield
    finally:
        _current.reset(token)
