"""The ledger applies each idempotency key once, refuses those whose epoch is over, and forgets nothing."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import JsonValue
from refund_desk.payments.ledger import Caller, Entry, Ledger
from refund_desk.payments.rules import EffectKind, decide, payload_digest

pytestmark = pytest.mark.unit

CALLER = Caller(key="run-1:7", run_id="run-1", region="a", epoch=3, worker="worker-1", attempt=1)
PAYLOAD: dict[str, JsonValue] = {"ticket_id": "T-1", "order_id": "ORD-1", "amount": "10.00", "currency": "EUR"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    ledger = Ledger(path)
    yield ledger
    ledger.close()


def outcomes(ledger: Ledger) -> list[str]:
    return [entry.outcome for entry in ledger.entries()]


def test_a_new_key_is_applied(ledger: Ledger) -> None:
    recorded = ledger.attempt("refunds", CALLER, PAYLOAD)
    assert recorded.outcome == "applied"
    assert recorded.result == decide("refunds", PAYLOAD)


def test_the_same_key_and_payload_is_a_duplicate_and_gets_the_first_result(ledger: Ledger) -> None:
    first = ledger.attempt("refunds", CALLER, PAYLOAD)
    shuffled = dict(reversed(PAYLOAD.items()))
    again = ledger.attempt("refunds", replace(CALLER, worker="worker-2", attempt=2), shuffled)
    assert (again.outcome, again.result) == ("duplicate", first.result)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [("refunds", PAYLOAD | {"amount": "10.01"}), ("refunds", {}), ("notes", PAYLOAD)],
)
def test_the_same_key_with_another_effect_is_a_conflict_and_changes_nothing(
    ledger: Ledger, kind: EffectKind, payload: dict[str, JsonValue]
) -> None:
    first = ledger.attempt("refunds", CALLER, PAYLOAD)
    other = ledger.attempt(kind, CALLER, payload)
    assert (other.outcome, other.result) == ("conflict", None)
    again = ledger.attempt("refunds", CALLER, PAYLOAD)
    assert (again.outcome, again.result) == ("duplicate", first.result)


def test_two_keys_with_the_same_payload_are_two_effects(ledger: Ledger) -> None:
    ledger.attempt("refunds", CALLER, PAYLOAD)
    assert ledger.attempt("refunds", replace(CALLER, key="run-1:8"), PAYLOAD).outcome == "applied"


def test_an_attempt_of_an_older_epoch_is_stale_and_not_applied(ledger: Ledger) -> None:
    ledger.attempt("refunds", replace(CALLER, epoch=4, key="run-2:1"), PAYLOAD)
    stale = ledger.attempt("refunds", CALLER, PAYLOAD)
    assert (stale.outcome, stale.result) == ("stale", None)
    assert ledger.attempt("refunds", replace(CALLER, epoch=4), PAYLOAD).outcome == "applied"


def test_a_stale_duplicate_does_not_get_the_result_either(ledger: Ledger) -> None:
    ledger.attempt("refunds", CALLER, PAYLOAD)
    ledger.attempt("refunds", replace(CALLER, epoch=4), PAYLOAD)
    assert ledger.attempt("refunds", CALLER, PAYLOAD).outcome == "stale"


def test_a_newer_epoch_is_heeded_even_where_its_attempt_was_a_conflict(ledger: Ledger) -> None:
    ledger.attempt("refunds", CALLER, PAYLOAD)
    ledger.attempt("refunds", replace(CALLER, epoch=9), {})
    assert ledger.attempt("refunds", replace(CALLER, key="run-1:8"), PAYLOAD).outcome == "stale"


def test_every_attempt_is_recorded_whatever_became_of_it(ledger: Ledger) -> None:
    before = time.time()
    ledger.attempt("refunds", CALLER, PAYLOAD)
    ledger.attempt("refunds", replace(CALLER, attempt=2), PAYLOAD)
    ledger.attempt("notes", CALLER, PAYLOAD)
    ledger.attempt("refunds", replace(CALLER, epoch=2), PAYLOAD)
    assert outcomes(ledger) == ["applied", "duplicate", "conflict", "stale"]
    first = ledger.entries()[0]
    assert first == Entry(
        seq=1,
        at=first.at,
        key="run-1:7",
        kind="refunds",
        run_id="run-1",
        region="a",
        epoch=3,
        worker="worker-1",
        attempt=1,
        digest=payload_digest(PAYLOAD),
        outcome="applied",
    )
    assert before <= first.at <= time.time()


def test_entries_are_read_page_by_page(ledger: Ledger) -> None:
    for number in range(5):
        ledger.attempt("notes", replace(CALLER, key=f"run-1:{number}"), {"text": "x"})
    assert [entry.seq for entry in ledger.entries(limit=2)] == [1, 2]
    assert [entry.seq for entry in ledger.entries(after=2, limit=2)] == [3, 4]
    assert [entry.seq for entry in ledger.entries(after=4)] == [5]
    assert ledger.entries(after=5) == []


def test_what_was_applied_is_known_after_reopening(path: Path) -> None:
    ledger = Ledger(path)
    first = ledger.attempt("refunds", CALLER, PAYLOAD)
    ledger.close()
    reopened = Ledger(path)
    again = reopened.attempt("refunds", CALLER, PAYLOAD)
    assert (again.outcome, again.result) == ("duplicate", first.result)
    assert outcomes(reopened) == ["applied", "duplicate"]
    reopened.close()


def test_an_epoch_that_is_over_stays_over_after_reopening(path: Path) -> None:
    ledger = Ledger(path)
    ledger.attempt("refunds", replace(CALLER, epoch=5), PAYLOAD)
    ledger.close()
    reopened = Ledger(path)
    assert reopened.attempt("refunds", replace(CALLER, epoch=4, key="run-1:8"), PAYLOAD).outcome == "stale"
    reopened.close()


def test_an_attempt_is_on_disk_when_it_returns(ledger: Ledger, path: Path) -> None:
    """Read by another connection while the ledger is still open, as after a kill."""
    ledger.attempt("refunds", CALLER, PAYLOAD)
    with sqlite3.connect(path) as other:
        assert other.execute("select key, outcome from attempts").fetchall() == [("run-1:7", "applied")]
        assert other.execute("select count(*) from effects").fetchone() == (1,)
    other.close()


def test_threads_that_race_for_the_same_keys_apply_each_once(ledger: Ledger) -> None:
    keys = [f"run-1:{number}" for number in range(25)]
    together = threading.Barrier(2)
    got: list[tuple[str, str, str]] = []

    def attempt_all(worker: str) -> None:
        together.wait(timeout=10)
        for key in keys:
            recorded = ledger.attempt("refunds", replace(CALLER, key=key, worker=worker), PAYLOAD)
            got.append((key, recorded.outcome, str(recorded.result)))

    threads = [threading.Thread(target=attempt_all, args=(f"worker-{number}",)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert Counter((key, outcome) for key, outcome, _ in got) == Counter(
        (key, outcome) for key in keys for outcome in ("applied", "duplicate")
    )
    assert len({result for _, _, result in got}) == 1
    assert [entry.seq for entry in ledger.entries()] == list(range(1, 51))


def test_an_effect_that_can_not_be_decided_leaves_no_trace_and_the_ledger_usable(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="amount"):
        ledger.attempt("approvals", replace(CALLER, epoch=9), {"ticket_id": "T-1"})
    assert ledger.entries() == []
    assert ledger.attempt("refunds", CALLER, PAYLOAD).outcome == "applied"


@pytest.mark.parametrize(("amount", "approved"), [("400.00", True), ("400.01", False), (0, True), ("0", True)])
def test_a_supervisor_approves_up_to_a_limit(amount: JsonValue, approved: bool) -> None:
    assert decide("approvals", {"amount": amount}) == {"approved": approved}


@pytest.mark.parametrize("payload", [{}, {"amount": None}, {"amount": "much"}, {"amount": "nan"}, {"amount": [1]}])
def test_an_approval_without_an_amount_is_no_effect(payload: dict[str, JsonValue]) -> None:
    with pytest.raises(ValueError, match="amount"):
        decide("approvals", payload)


def test_each_kind_of_effect_names_its_result_by_what_was_asked() -> None:
    names: list[tuple[EffectKind, str, str]] = [
        ("refunds", "refund_id", "rf-"),
        ("notes", "note_id", "nt-"),
        ("notifications", "notification_id", "ms-"),
    ]
    for kind, name, prefix in names:
        answer = str(decide(kind, PAYLOAD)[name])
        assert answer.startswith(prefix)
        assert decide(kind, PAYLOAD) == {name: answer}
        assert decide(kind, {**PAYLOAD, "ticket_id": "T-2"}) != {name: answer}
