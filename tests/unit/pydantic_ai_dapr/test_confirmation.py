"""No answer is given before the turn that asked for it is saved."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
from pydantic_ai_dapr import WorkflowUnavailableError, confirmation
from pydantic_ai_dapr.confirmation import Confirmations

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmation, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(confirmation, "LONGEST_PAUSE_SECONDS", 0.002)


class Histories:
    """Says in turn what each read of the history finds."""

    def __init__(self, *found: int | Exception | None) -> None:
        self.found: Iterator[int | Exception | None] = iter(found)
        self.reads = 0

    def __call__(self, instance_id: str) -> int | None:
        self.reads += 1
        found = next(self.found)
        if isinstance(found, Exception):
            raise found
        return found


def test_a_saved_turns_answer_is_given_at_once() -> None:
    histories = Histories(3)
    Confirmations(histories).wait("run-1", 3)
    assert histories.reads == 1


def test_the_answer_waits_for_a_turn_that_is_not_saved_yet() -> None:
    histories = Histories(-1, 2, WorkflowUnavailableError("half-written"), 4)
    Confirmations(histories).wait("run-1", 3)
    assert histories.reads == 4


def test_what_is_known_to_be_saved_is_not_read_again() -> None:
    histories = Histories(5)
    confirmations = Confirmations(histories)
    for task_id in (5, 4, 3):
        confirmations.wait("run-1", task_id)
    assert histories.reads == 1


def test_no_answer_waits_for_a_workflow_that_has_ended() -> None:
    Confirmations(Histories(None)).wait("run-1", 3)


def test_what_one_workflow_saved_says_nothing_of_another() -> None:
    histories = Histories(9, -1, 1)
    confirmations = Confirmations(histories)
    confirmations.wait("run-1", 9)
    confirmations.wait("run-2", 1)
    assert histories.reads == 3


def test_only_so_many_workflows_are_remembered() -> None:
    histories = Histories(1, 1, 1)
    confirmations = Confirmations(histories, limit=1)
    for instance_id in ("run-1", "run-2", "run-1"):
        confirmations.wait(instance_id, 1)
    assert histories.reads == 3


def test_a_wait_that_lasts_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(confirmation, "TELL_AFTER_SECONDS", 0.0)
    with caplog.at_level(logging.WARNING):
        Confirmations(Histories(-1, -1, -1, 7)).wait("run-1", 7)
    assert [record.getMessage() for record in caplog.records] == [
        "run run-1: task 7 has ended, but the turn that asked for it isn't saved"
    ]


def test_stopping_ends_every_wait() -> None:
    confirmations = Confirmations(lambda instance_id: -1)
    waiting = threading.Thread(target=confirmations.wait, args=("run-1", 1))
    waiting.start()
    confirmations.stop()
    waiting.join(5)
    assert not waiting.is_alive()
