"""A worker's log says which run, step and trace a line belongs to, and in which region and epoch it was written."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from opentelemetry import trace
from pydantic_ai_dapr import Operation
from pydantic_ai_dapr.context import operation_scope
from service.role import Role, told
from service.worker import running

pytestmark = pytest.mark.unit

SPAN = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=True))


def test_within_a_step_its_run_attempt_and_trace_are_told() -> None:
    with operation_scope(Operation("run-1", "run-1~2", 4, "tool", "issue_refund", 2)), trace.use_span(SPAN):
        assert running() == {
            "run_id": "run-1",
            "step": 4,
            "attempt": 2,
            "trace_id": "00000000000000000000000000000abc",
            "span_id": "0000000000000def",
        }


def test_elsewhere_there_is_nothing_to_tell() -> None:
    assert running() == {}


def test_the_region_is_told_with_its_role_where_it_has_one() -> None:
    role = Role(region="a", role="active", epoch=3, since=datetime.now(UTC))
    assert told("a", role) == {"region": "a", "role": "active", "epoch": 3}
    assert told("a", None) == {"region": "a", "role": None, "epoch": None}
