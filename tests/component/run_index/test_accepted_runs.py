"""A run that was accepted is in the database, once, whatever is asked afterwards."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from run_index import Acceptance, NotStorableError, RunIndex

from tests.component.database import Database

pytestmark = pytest.mark.component

INPUT = {"prompt": "a refund, please", "deps": {"ticket_id": "T-1", "amounts": [1, 2.5, None, True]}}


@pytest.fixture
def other(database: Database, index: RunIndex) -> Iterator[RunIndex]:
    """Another process's index."""
    made = RunIndex(database.dsn)
    yield made
    made.close()


def ids(runs: list) -> list[str]:
    return [run.run_id for run in runs]


def together(count: int, call: object) -> list[object]:
    """What `call` answers when several threads make it at once."""
    barrier, answers = threading.Barrier(count), []

    def make() -> None:
        barrier.wait(timeout=10)
        try:
            answers.append(call())
        except Exception as error:
            answers.append(error)

    threads = [threading.Thread(target=make) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(answers) == count
    return answers


def test_a_new_run_is_created_and_everybody_sees_it(index: RunIndex, other: RunIndex) -> None:
    accepted = index.accept("run-1", INPUT)
    assert accepted.outcome == "created"
    assert accepted.run.status == "accepted"
    assert accepted.run.input == INPUT
    assert accepted.run.accepted_at.tzinfo is not None
    assert (accepted.run.scheduled_at, accepted.run.closed_at, accepted.run.error) == (None, None, None)
    assert other.get("run-1") == accepted.run


def test_an_accepted_run_survives_a_database_that_is_killed(database: Database, index: RunIndex) -> None:
    accepted = index.accept("run-1", INPUT)
    database.stop("immediate")
    database.start()
    assert index.get("run-1") == accepted.run


def test_the_same_start_again_is_existing_and_changes_nothing(index: RunIndex, other: RunIndex) -> None:
    created = index.accept("run-1", INPUT)
    shuffled = dict(reversed(INPUT.items()))
    assert other.accept("run-1", shuffled) == Acceptance("existing", created.run)
    assert index.count_open() == 1


def test_another_input_under_the_same_id_is_a_conflict_and_changes_nothing(index: RunIndex) -> None:
    created = index.accept("run-1", INPUT)
    assert index.accept("run-1", {**INPUT, "prompt": "another"}) == Acceptance("conflict", created.run)
    assert index.get("run-1") == created.run


def test_a_start_that_is_tried_again_in_another_trace_stays_in_that_of_the_first(index: RunIndex) -> None:
    first = index.accept("run-1", {**INPUT, "trace": {"traceparent": "first"}})
    again = index.accept("run-1", {**INPUT, "trace": {"traceparent": "second"}})
    assert again == Acceptance("existing", first.run)
    assert index.accept("run-1", {**INPUT, "trace": {}}).outcome == "existing"


def test_a_start_is_existing_also_after_the_run_has_ended(index: RunIndex) -> None:
    index.accept("run-1", INPUT)
    index.close_run("run-1", "completed")
    again = index.accept("run-1", INPUT)
    assert (again.outcome, again.run.status) == ("existing", "completed")


def test_of_starts_at_once_one_creates_the_run(index: RunIndex) -> None:
    answers = together(8, lambda: index.accept("run-1", INPUT).outcome)
    assert Counter(answers) == {"created": 1, "existing": 7}


def test_the_schema_may_be_made_by_several_at_once(database: Database) -> None:
    makers = [RunIndex(database.dsn) for _ in range(2)]
    for _ in range(5):
        database.execute("drop schema if exists holdfast cascade")
        waiting = iter(makers)
        assert together(2, lambda turn=waiting: next(turn).ensure_schema()) == [None, None]
        assert makers[0].accept("run-1", INPUT).outcome == "created"
    for maker in makers:
        maker.close()


def test_making_the_schema_again_keeps_the_runs(index: RunIndex) -> None:
    index.accept("run-1", INPUT)
    index.ensure_schema()
    assert index.count_open() == 1


def test_a_run_nobody_accepted_is_none(index: RunIndex) -> None:
    assert index.get("run-1") is None


def test_a_run_is_scheduled_once(index: RunIndex) -> None:
    index.accept("run-1", INPUT)
    index.mark_scheduled("run-1")
    first = index.get("run-1")
    index.mark_scheduled("run-1")
    assert first is not None
    assert (first.status, first.scheduled_at is not None) == ("scheduled", True)
    assert index.get("run-1") == first


def test_a_run_is_closed_once_and_its_end_stays(index: RunIndex) -> None:
    index.accept("run-1", INPUT)
    assert index.close_run("run-1", "failed", "ValueError: no")
    assert not index.close_run("run-1", "completed")
    index.mark_scheduled("run-1")
    run = index.get("run-1")
    assert run is not None
    assert (run.status, run.error, run.closed_at is not None) == ("failed", "ValueError: no", True)
    assert run.scheduled_at is None


def test_closing_a_run_nobody_accepted_closes_nothing(index: RunIndex) -> None:
    assert not index.close_run("run-1", "completed")


def test_open_runs_are_those_that_have_not_ended_oldest_first(index: RunIndex) -> None:
    for number in range(4):
        index.accept(f"run-{number}", INPUT)
    index.mark_scheduled("run-1")
    index.close_run("run-2", "completed")
    assert ids(index.open_runs()) == ["run-0", "run-1", "run-3"]
    assert ids(index.open_runs(limit=2)) == ["run-0", "run-1"]
    assert index.count_open() == 3


def test_pages_follow_each_other_newest_first_without_a_gap(index: RunIndex) -> None:
    for number in range(5):
        index.accept(f"run-{number}", INPUT)
    seen: list[str] = []
    before: tuple[datetime, str] | None = None
    for expected in (2, 2, 1, 0):
        page = index.page(status=None, limit=2, before=before)
        assert len(page) == expected
        seen += ids(page)
        before = (page[-1].accepted_at, page[-1].run_id) if page else None
    assert seen == ["run-4", "run-3", "run-2", "run-1", "run-0"]


def test_runs_of_the_same_instant_are_paged_by_their_id(database: Database, index: RunIndex) -> None:
    for number in (2, 0, 3, 1):
        index.accept(f"run-{number}", INPUT)
    database.execute("update holdfast.runs set accepted_at = '2026-01-01T00:00:00Z'")
    # The table's index has that order already; the answer must not depend on it.
    database.execute("drop index holdfast.runs_by_acceptance")
    first = index.page(status=None, limit=3, before=None)
    second = index.page(status=None, limit=3, before=(first[-1].accepted_at, first[-1].run_id))
    assert ids(first + second) == ["run-3", "run-2", "run-1", "run-0"]


def test_a_page_may_show_one_status_or_what_is_open(index: RunIndex) -> None:
    for number in range(4):
        index.accept(f"run-{number}", INPUT)
    index.mark_scheduled("run-1")
    index.close_run("run-2", "completed")
    index.close_run("run-3", "failed", "ValueError: no")

    def shown(status: str) -> list[str]:
        return ids(index.page(status=status, limit=10, before=None))

    assert shown("open") == ["run-1", "run-0"]
    assert shown("accepted") == ["run-0"]
    assert shown("completed") == ["run-2"]
    assert shown("failed") == ["run-3"]
    assert shown("no such status") == []


@pytest.mark.parametrize("value", ["a NUL: \x00", "\ud800", float("nan")], ids=["nul", "surrogate", "nan"])
def test_an_input_that_the_database_can_not_hold_is_refused(index: RunIndex, value: object) -> None:
    with pytest.raises(NotStorableError, match="a value can't be stored: "):
        index.accept("run-1", {"prompt": value})
    assert index.count_open() == 0


def test_a_page_of_what_can_not_be_stored_is_refused(index: RunIndex) -> None:
    with pytest.raises(NotStorableError, match="NUL"):
        index.page(status="\x00", limit=1, before=None)


def test_a_run_is_closed_whatever_its_error_says(index: RunIndex) -> None:
    index.accept("run-1", INPUT)
    assert index.close_run("run-1", "failed", "ValueError: \x00 is no amount")
    run = index.get("run-1")
    assert run is not None
    assert run.error == "ValueError: \ufffd is no amount"


def test_runs_are_found_by_agent_time_and_text_of_their_id(database: Database, index: RunIndex) -> None:
    for number in range(3):
        index.accept(f"run_{number}", INPUT, agent=f"agent-{number % 2}")
    database.execute("update holdfast.runs set accepted_at = date '2026-01-01' + right(run_id, 1)::int")

    def shown(**wanted: Any) -> list[str]:
        return ids(index.page(limit=10, **wanted))

    at = datetime(2026, 1, 2, tzinfo=UTC)
    assert shown(agent="agent-0") == ["run_2", "run_0"]
    assert shown(since=at) == ["run_2", "run_1"]
    assert shown(until=at) == ["run_0"]
    assert shown(since=at, agent="agent-0", status="open", id_contains="n_") == ["run_2"]
    assert shown(id_contains="_1") == ["run_1"]
    assert shown(id_contains="%") == []


def test_the_same_rerun_again_is_existing_and_another_one_a_conflict(index: RunIndex) -> None:
    made = index.accept("run-1~2", INPUT, agent="desk", rerun_of="run-1", rerun_step=3)
    assert made.outcome == "created"
    assert (made.run.agent, made.run.rerun_of, made.run.rerun_step) == ("desk", "run-1", 3)
    assert index.accept("run-1~2", INPUT, rerun_of="run-1", rerun_step=3) == Acceptance("existing", made.run)
    for other in ({"rerun_of": "run-1"}, {"rerun_of": "run-2", "rerun_step": 3}, {}):
        assert index.accept("run-1~2", INPUT, **other).outcome == "conflict"


def test_a_table_that_was_made_before_reruns_keeps_its_runs(database: Database, index: RunIndex) -> None:
    index.accept("run-1", INPUT)
    database.execute("alter table holdfast.runs drop agent, drop rerun_of, drop rerun_step")
    index.ensure_schema()
    kept = index.get("run-1")
    assert kept is not None
    assert (kept.input, kept.agent, kept.rerun_of, kept.rerun_step) == (INPUT, "", None, None)
    assert index.accept("run-1~2", INPUT, rerun_of="run-1").outcome == "created"
