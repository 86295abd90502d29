"""What is too large for a history is kept beside it, whole and unchanged, or refused."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic_ai_dapr import HistoryEvent, PayloadLostError, PayloadTooLargeError, payloads
from pydantic_ai_dapr.journal import Continued, Journal, Segment
from pydantic_ai_dapr.payloads import Payloads, reference_of
from pydantic_ai_dapr.run import Answer, Moment

from tests.support.durable_agents import Values

pytestmark = pytest.mark.unit


@pytest.fixture
def values() -> Values:
    return Values()


@pytest.fixture
def kept(values: Values) -> Payloads:
    return Payloads(values, inline_bytes=100)


def noise(size: int) -> str:
    return random.Random(1).randbytes(size).hex()


def test_small_payloads_stay_where_they_are(kept: Payloads, values: Values) -> None:
    assert kept.offload("run-1", {"text": "small"}) == {"text": "small"}
    assert kept.resolve({"text": "small"}) == {"text": "small"}
    assert values == {}


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_large_payloads_come_back_whole(kept: Payloads, values: Values, size: int) -> None:
    value = {"text": noise(size)}
    packed = kept.offload("run-1", value)
    assert len(str(packed)) < 300
    assert kept.resolve(packed) == value
    assert all(len(part) <= payloads.PART_BYTES for part in values.values())


def test_the_same_payload_is_kept_once(kept: Payloads, values: Values) -> None:
    first = kept.put("run-1", "x" * 200)
    assert kept.put("run-1", "x" * 200) == first
    assert len(values) == 1
    kept.delete(first)
    assert values == {}


def test_what_is_lost_or_changed_is_told(kept: Payloads, values: Values) -> None:
    reference = kept.put("run-1", noise(100))
    (key,) = values
    values[key] = Payloads(other := Values()).put("run-1", "another") and next(iter(other.values()))
    with pytest.raises(PayloadLostError, match="is not what the run wrote"):
        kept.get(reference)
    values[key] = b"not compressed"
    with pytest.raises(PayloadLostError, match="no whole"):
        kept.get(reference)
    del values[key]
    with pytest.raises(PayloadLostError, match="no whole"):
        kept.get(reference)


def test_what_is_too_large_is_refused(kept: Payloads, values: Values, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payloads, "MAX_BYTES", 1000)
    with pytest.raises(PayloadTooLargeError, match=r"1002 bytes, more than 1000; keep such data in a store"):
        kept.offload("run-1", "x" * 1000)
    assert values == {}


@pytest.mark.parametrize(
    "value", [None, "text", [], {}, {"$payload": None}, {"$payload": {"key": "k"}}, {"$payload": {}, "more": 1}]
)
def test_what_is_no_reference_is_left_alone(kept: Payloads, value: Any) -> None:
    assert reference_of(value) is None
    assert kept.resolve(value) == value


def test_what_a_run_wrote_beside_its_history_is_removed_with_it(kept: Payloads, values: Values) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    others = kept.offload("run-0", noise(300))
    before = dict(values)

    def event(kind: Any, **fields: Any) -> HistoryEvent:
        return HistoryEvent(sequence=0, type=kind, timestamp=at, **fields)

    def large(seed: str) -> Any:
        return kept.offload("run-1", seed + noise(200))

    cut = [event("taskScheduled", task_id=1, input={"params": large("asked")}), event("taskCompleted", result=others)]
    journal = Journal(kept, lambda instance_id: cut)
    segment = Segment(Moment(at, False), [Answer(1, large("answered"), None, Moment(at, False))])
    head = journal.append("run-1", segment, None)
    started = {"payload": large("input"), "continued": Continued(segment=1, head=head).model_dump()}
    journal.delete("run-1", [event("executionStarted", input=started), event("taskCompleted", result=large("last"))])
    assert values == before
