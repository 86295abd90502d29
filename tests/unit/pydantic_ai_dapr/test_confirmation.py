"""No answer is given before the turn that asked for it is saved, and none to a turn that was lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic_ai_dapr import WorkflowUnavailableError, confirmation
from pydantic_ai_dapr.confirmation import Asked, Confirmations, Saved, Task, Tasks
from pydantic_ai_dapr.errors import DroppedWorkError

pytestmark = pytest.mark.unit
TURN = 1_795_000_000.123456


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
        return Saved(0, found, TURN) if isinstance(found, int) else found


def confirming(saved: Callable[[str], Saved | None], limit: int = 4096) -> Confirmations:
    return Confirmations(saved, lambda instance_id: Tasks(), limit)


def step(issued: int, *, run: str = "run-1", segment: int = 0, turn: float = TURN) -> Asked:
    return Asked(Task(run, issued, f"{turn}#{issued}"), segment, issued, turn)


def test_a_saved_turns_answer_is_given_at_once() -> None:
    histories = Histories(3)
    confirming(histories).wait(step(3))
    assert histories.reads == 1


def test_the_answer_waits_for_a_turn_that_is_not_saved_yet() -> None:
    histories = Histories(-1, 2, WorkflowUnavailableError("half-written"), 4)
    confirming(histories).wait(step(3))
    assert histories.reads == 4


def test_what_is_known_to_be_saved_is_not_read_again() -> None:
    histories = Histories(5)
    confirmations = confirming(histories)
    for task_id in (5, 4, 3):
        confirmations.wait(step(task_id))
    assert histories.reads == 1


def test_no_answer_waits_for_a_workflow_that_is_gone() -> None:
    confirming(Histories(None)).wait(step(3))


def test_what_one_workflow_saved_says_nothing_of_another() -> None:
    histories = Histories(9, -1, 1)
    confirmations = confirming(histories)
    confirmations.wait(step(9))
    confirmations.wait(step(1, run="run-2"))
    assert histories.reads == 3


def test_only_so_many_workflows_are_remembered() -> None:
    histories = Histories(1, 1, 1)
    confirmations = confirming(histories, limit=1)
    for instance_id in ("run-1", "run-2", "run-1"):
        confirmations.wait(step(1, run=instance_id))
    assert histories.reads == 3


def test_a_new_segments_answer_waits_for_that_segment() -> None:
    histories = Histories(Saved(0, 130), Saved(1, -1), Saved(1, 2, TURN))
    confirming(histories).wait(step(2, segment=1))
    assert histories.reads == 3


@pytest.mark.parametrize("late", [Saved(1, 40), Saved(0, 2, ended=True)])
def test_an_answer_to_a_segment_that_has_ended_is_never_given(late: Saved, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(DroppedWorkError):
        confirming(Histories(late)).wait(step(3))
    assert "step 0:3 comes too late" in caplog.text


def test_an_answer_to_a_turn_that_was_lost_and_repeated_is_never_given(caplog: pytest.LogCaptureFixture) -> None:
    repeated = step(3, turn=TURN + 1)
    tasks = Tasks({3: repeated.task.execution_id})
    confirmations = Confirmations(
        Histories(Saved(0, 2, TURN - 1), Saved(0, 3, repeated.turn)), lambda instance_id: tasks
    )
    with caplog.at_level(logging.WARNING), pytest.raises(DroppedWorkError):
        confirmations.wait(step(3))
    confirmations.wait(repeated)
    assert "step 0:3 was asked for by a turn that was lost" in caplog.text


def test_an_answer_is_given_though_later_turns_have_been_saved_since() -> None:
    first, second = step(2), step(3)
    tasks = Tasks({2: first.task.execution_id, 3: second.task.execution_id})
    reads = Histories(Saved(0, 3, TURN), Saved(0, 4, TURN + 1), Saved(0, 5, TURN + 2))
    seen = Confirmations(reads, lambda instance_id: Tasks())
    seen.wait(second)
    seen.wait(step(4, turn=TURN + 1))
    seen.wait(first)
    missed = Confirmations(reads, lambda instance_id: tasks)
    missed.wait(first)
    assert reads.reads == 3


def test_what_an_older_driver_wrote_is_looked_up_in_the_history() -> None:
    asked = step(3)
    Confirmations(Histories(Saved(0, 3)), lambda instance_id: Tasks({3: asked.task.execution_id})).wait(asked)


def test_a_history_that_cannot_be_read_is_asked_again() -> None:
    asked = step(3)
    reads = iter([WorkflowUnavailableError("not now"), Tasks(), Tasks({3: asked.task.execution_id})])

    def tasks(instance_id: str) -> Tasks:
        found = next(reads)
        if isinstance(found, Exception):
            raise found
        return found

    Confirmations(Histories(Saved(0, 3), Saved(0, 3), Saved(0, 3)), tasks).wait(asked)
    assert next(reads, None) is None


def test_a_task_that_is_no_step_is_looked_up_in_the_history() -> None:
    task = Task("run-1", 3, "again")
    reads = iter([Tasks(), Tasks({3: "again"}), Tasks({3: "again"})])
    confirmations = Confirmations(Histories(1, 2, 2), lambda instance_id: next(reads))
    confirmations.wait(Asked(task))
    with pytest.raises(DroppedWorkError):
        confirmations.wait(Asked(Task("run-1", 3, "lost")))


def test_an_ended_runs_answer_is_given_where_the_history_asks_for_it() -> None:
    confirming(Histories(Saved(0, 3, TURN, ended=True))).wait(step(3))


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
    assert confirmations.is_answered(step(3)) is answered


def test_a_late_delivery_is_executed_where_the_history_cannot_be_read() -> None:
    def answered(instance_id: str) -> Tasks:
        raise WorkflowUnavailableError("not now")

    assert not Confirmations(Histories(5), answered).is_answered(step(3))


@pytest.mark.parametrize("told", ["", "somebody else's", "1:", "1:x", "1:2:x", "1:2:3.0:4"])
def test_a_custom_status_that_is_not_the_drivers_tells_nothing(told: str) -> None:
    assert Saved.parse(told, ended=False) == confirmation.UNKNOWN


@pytest.mark.parametrize("saved", [Saved(3, 14), Saved(3, 14, TURN), Saved(3, 14, 1_795_000_000.0)])
def test_what_the_driver_writes_is_read_as_it_was(saved: Saved) -> None:
    read = Saved.parse(str(saved), ended=False)
    assert (read, read.turn) == (saved, saved.turn)


def test_a_delivery_in_time_is_not_looked_up() -> None:
    histories = Histories()
    assert not confirming(histories).is_answered(step(3, turn=time.time()))
    assert histories.reads == 0


def test_a_wait_that_lasts_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(confirmation, "TELL_AFTER_SECONDS", 0.0)
    with caplog.at_level(logging.WARNING):
        confirming(Histories(-1, -1, -1, 7)).wait(step(7))
    assert [record.getMessage() for record in caplog.records] == [
        "run run-1: step 0:7 has ended, but the turn that asked for it isn't saved"
    ]


def test_stopping_ends_every_wait() -> None:
    confirmations = confirming(lambda instance_id: Saved(0, -1))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(confirmations.wait, step(1))
        confirmations.stop()
        assert isinstance(waiting.exception(5), DroppedWorkError)


def test_a_copy_that_has_had_no_turn_yet_is_asked_for_its_history() -> None:
    asked = step(5)
    tasks = iter([Tasks(), Tasks({5: asked.task.execution_id})])
    histories = Histories(confirmation.UNKNOWN, confirmation.UNKNOWN)
    Confirmations(histories, lambda instance_id: next(tasks)).wait(asked)
    assert histories.reads == 2
