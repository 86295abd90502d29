"""No answer is given before the turn that asked for it is saved, and none to a segment that has ended."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic_ai_dapr import WorkflowUnavailableError, confirmation
from pydantic_ai_dapr.confirmation import Confirmations, Saved, Tasks
from pydantic_ai_dapr.errors import DroppedWorkError

pytestmark = pytest.mark.unit
LONG_AGO = 0.0


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmation, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(confirmation, "LONGEST_PAUSE_SECONDS", 0.002)


class Histories:
    """Says in turn what each read of the history finds: the last task of segment 0, or what it is given."""

    def __init__(self, *found: int | Saved | Exception | None) -> None:
        self.found: Iterator[int | Saved | Exception | None] = iter(found)
        self.reads = 0

    def __call__(self, instance_id: str) -> Saved | None:
        self.reads += 1
        found = next(self.found)
        if isinstance(found, Exception):
            raise found
        return Saved(0, found) if isinstance(found, int) else found


def confirming(saved: Callable[[str], Saved | None], limit: int = 4096) -> Confirmations:
    return Confirmations(saved, lambda instance_id: Tasks(), limit)


def test_a_saved_turns_answer_is_given_at_once() -> None:
    histories = Histories(3)
    confirming(histories).wait("run-1", 0, 3, 3)
    assert histories.reads == 1


def test_the_answer_waits_for_a_turn_that_is_not_saved_yet() -> None:
    histories = Histories(-1, 2, WorkflowUnavailableError("half-written"), 4)
    confirming(histories).wait("run-1", 0, 3, 3)
    assert histories.reads == 4


def test_what_is_known_to_be_saved_is_not_read_again() -> None:
    histories = Histories(5)
    confirmations = confirming(histories)
    for task_id in (5, 4, 3):
        confirmations.wait("run-1", 0, task_id, task_id)
    assert histories.reads == 1


def test_no_answer_waits_for_a_workflow_that_is_gone() -> None:
    confirming(Histories(None)).wait("run-1", 0, 3, 3)


def test_what_one_workflow_saved_says_nothing_of_another() -> None:
    histories = Histories(9, -1, 1)
    confirmations = confirming(histories)
    confirmations.wait("run-1", 0, 9, 9)
    confirmations.wait("run-2", 0, 1, 1)
    assert histories.reads == 3


def test_only_so_many_workflows_are_remembered() -> None:
    histories = Histories(1, 1, 1)
    confirmations = confirming(histories, limit=1)
    for instance_id in ("run-1", "run-2", "run-1"):
        confirmations.wait(instance_id, 0, 1, 1)
    assert histories.reads == 3


def test_a_new_segments_answer_waits_for_that_segment() -> None:
    histories = Histories(Saved(0, 130), Saved(1, -1), Saved(1, 2))
    confirming(histories).wait("run-1", 1, 2, 2)
    assert histories.reads == 3


@pytest.mark.parametrize("late", [Saved(1, 40), Saved(0, 2, ended=True)])
def test_an_answer_to_a_segment_that_has_ended_is_never_given(
    late: Saved, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(confirmation, "STALE_PAUSE_SECONDS", 0.001)
    reads = threading.Semaphore(0)

    def saved(instance_id: str) -> Saved:
        reads.release()
        return late

    confirmations = confirming(saved)
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(confirmations.wait, "run-1", 0, 3, 3)
        for _ in range(3):
            assert reads.acquire(timeout=5)
        assert not waiting.done()
        confirmations.stop()
        assert isinstance(waiting.exception(5), DroppedWorkError)
    assert "step 0:3 comes too late" in caplog.text


def test_an_ended_runs_answer_is_given_where_the_history_asks_for_it() -> None:
    confirming(Histories(Saved(0, 3, ended=True))).wait("run-1", 0, 3, 3)


@pytest.mark.parametrize(
    ("saved", "answers", "answered"),
    [
        (Saved(0, 5), {3}, True),
        (Saved(0, 5), {2}, False),
        (Saved(0, 2), set[int](), False),
        (Saved(1, 1), set[int](), True),
        (Saved(0, 5, ended=True), set[int](), True),
        (None, set[int](), True),
        (WorkflowUnavailableError("not now"), {3}, False),
    ],
)
def test_a_late_delivery_is_looked_up(saved: Saved | Exception | None, answers: set[int], answered: bool) -> None:
    confirmations = Confirmations(Histories(saved), lambda instance_id: Tasks(answered=frozenset(answers)))
    assert confirmations.is_answered("run-1", 0, 3, LONG_AGO) is answered


def test_a_late_delivery_is_executed_where_the_history_cannot_be_read() -> None:
    def answered(instance_id: str) -> Tasks:
        raise WorkflowUnavailableError("not now")

    assert not Confirmations(Histories(5), answered).is_answered("run-1", 0, 3, LONG_AGO)


@pytest.mark.parametrize("told", ["", "somebody else's", "1:", "1:x"])
def test_a_custom_status_that_is_not_the_drivers_tells_nothing(told: str) -> None:
    assert Saved.parse(told, ended=False) == confirmation.UNKNOWN
    assert Saved.parse(str(Saved(3, 14)), ended=False) == Saved(3, 14)


def test_a_delivery_in_time_is_not_looked_up() -> None:
    histories = Histories()
    assert not confirming(histories).is_answered("run-1", 0, 3, time.time())
    assert histories.reads == 0


def test_a_wait_that_lasts_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(confirmation, "TELL_AFTER_SECONDS", 0.0)
    with caplog.at_level(logging.WARNING):
        confirming(Histories(-1, -1, -1, 7)).wait("run-1", 0, 7, 7)
    assert [record.getMessage() for record in caplog.records] == [
        "run run-1: step 0:7 has ended, but the turn that asked for it isn't saved"
    ]


def test_stopping_ends_every_wait() -> None:
    confirmations = confirming(lambda instance_id: Saved(0, -1))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(confirmations.wait, "run-1", 0, 1, 1)
        confirmations.stop()
        assert isinstance(waiting.exception(5), DroppedWorkError)


def test_a_copy_that_has_had_no_turn_yet_is_asked_for_its_history() -> None:
    tasks = iter([Tasks(), Tasks(scheduled=frozenset({3}))])
    histories = Histories(confirmation.UNKNOWN, confirmation.UNKNOWN)
    Confirmations(histories, lambda instance_id: next(tasks)).wait("run-1", 0, 5, 3)
    assert histories.reads == 2
