"""A timeline says where each answer was given by when it was saved, and nothing where that is not recorded."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from pydantic import JsonValue
from pydantic_ai_dapr import HistoryEvent
from run_index import Epoch, epoch_at
from service.console.timeline import WIDTH, Line, places, timeline

from tests.support.recorded_runs import finished, scripted
from tests.support.regions import SINCE

pytestmark = pytest.mark.unit


def at(seconds: float) -> datetime:
    return SINCE + timedelta(seconds=seconds)


A, B, A_AGAIN = Epoch(2, "a", at(-10)), Epoch(3, "b", at(2.5)), Epoch(4, "a", at(5.5))


@pytest.fixture
def history() -> list[HistoryEvent]:
    """Operations that are answered each a second after the other: at 2, 3, 4, 5 and 6 s."""
    return finished(scripted([[("double", 4)], [("even", 3)]])).history()


def recover(history: list[HistoryEvent], seconds: float, token: JsonValue) -> list[HistoryEvent]:
    """The history with a signal in it."""
    signal = HistoryEvent(sequence=0, type="eventRaised", name="recover", timestamp=at(seconds), input=token)
    before = [event for event in history if event.timestamp <= at(seconds)]
    return [*before, signal, *history[len(before) :]]


def told(rows: list[Line]) -> list[str]:
    return [
        f"{line.step.ordinal} {line.epoch.region if line.epoch else '?'}{' moved' if line.moved else ''}"
        for line in rows
    ]


def test_an_answer_was_given_where_the_epoch_says_that_was_in_force(history: list[HistoryEvent]) -> None:
    assert told(timeline(history, [A, B, A_AGAIN], at(99)).lines) == ["1 a", "2 b moved", "3 b", "4 b", "5 a moved"]


def test_what_was_before_the_first_record_is_not_guessed(history: list[HistoryEvent]) -> None:
    assert told(timeline(history, [], at(99)).lines) == ["1 ?", "2 ?", "3 ?", "4 ?", "5 ?"]
    assert told(timeline(history, [B], at(99)).lines) == ["1 ?", "2 b", "3 b", "4 b", "5 b"]
    assert epoch_at([A, B], at(2.5)) == B
    assert epoch_at([A, B], at(2.4)) == A


def test_a_failover_is_where_the_run_was_woken_and_once_however_often_it_was(history: list[HistoryEvent]) -> None:
    events = recover(recover(recover(history, 3, "epoch 3 since 1.0"), 3, "epoch 3 since 1.0"), 4, "epoch 3 since 1.0")
    found = timeline(events, [A, B], at(99))
    [failover] = found.moves
    assert (failover.number, failover.epoch, failover.at) == (3, B, at(3))
    assert [row.step.ordinal if isinstance(row, Line) else "failover" for row in found.rows] == [
        1,
        2,
        "failover",
        3,
        4,
        5,
    ]
    assert failover.x == pytest.approx(found.lines[2].x)


def test_an_epoch_that_is_not_recorded_is_shown_by_its_number(history: list[HistoryEvent]) -> None:
    [failover] = timeline(recover(history, 3, "epoch 7"), [A], at(99)).moves
    assert (failover.number, failover.epoch) == (7, None)


def test_a_signal_in_the_run_s_own_epoch_is_no_failover_and_a_second_one_wakes_it_again(
    history: list[HistoryEvent],
) -> None:
    events = recover(history, 3, "epoch 2 since 1.0")
    assert timeline(events, [A], at(99)).failovers == []
    [woken] = timeline(recover(events, 4, "epoch 2 since 2.0"), [A], at(99)).failovers
    assert (woken.is_new_epoch, woken.number) == (False, 2)


@pytest.mark.parametrize("token", [None, "soon", {"epoch": 3}, "epoch", "epoch -1", "epoch 99999999999"])
def test_what_says_no_epoch_is_no_failover(history: list[HistoryEvent], token: JsonValue) -> None:
    assert timeline(recover(history, 3, token), [A, B], at(99)).failovers == []


def test_the_picture_spans_the_run_and_an_open_operation_lasts_until_now(history: list[HistoryEvent]) -> None:
    whole = timeline(history, [], at(99))
    assert (whole.lines[0].x, whole.lines[-1].x + whole.lines[-1].width, whole.seconds) == (0, WIDTH, 5.0)
    part = timeline(history[:4], [], at(11))
    assert (part.seconds, part.lines[0].step.ended, part.lines[0].width) == (10.0, None, WIDTH)
    late = timeline(history[:4], [], at(-5))
    assert (late.seconds, late.lines[0].width) == (0.0, 3)


def test_tokens_and_failed_attempts_are_summed(history: list[HistoryEvent]) -> None:
    found = timeline(history, [], at(99))
    models = [line for line in found.lines if line.step.kind == "model"]
    assert all(line.tokens for line in models)
    assert found.tokens == tuple(map(sum, zip(*(line.tokens or (0, 0) for line in models), strict=True)))
    odd = [
        event.model_copy(update={"result": {"ok": {"usage": "much"}}}) if event.type == "taskCompleted" else event
        for event in history
    ]
    assert timeline(odd, [], at(99)).tokens == (0, 0)
    assert found.failed_attempts == 0


def test_a_run_without_a_history_has_an_empty_timeline() -> None:
    empty = timeline([], [A], at(1))
    assert (empty.rows, empty.seconds, empty.tokens, empty.waiting) == ([], 0.0, (0, 0), [])


@pytest.mark.parametrize(
    ("since", "until", "regions"),
    [
        (0, 1, ["a"]),
        (0, 3, ["a", "b"]),
        (0, 9, ["a", "b", "a"]),
        (3, 5, ["b"]),
        (-20, -15, []),
        (-20, 0, ["a"]),
        (6, 6, ["a"]),
    ],
)
def test_a_run_was_where_regions_were_active_in_its_time(since: float, until: float, regions: list[str]) -> None:
    assert places([A, B, A_AGAIN], at(since), at(until)) == regions
    assert places([A, Epoch(3, "a", at(1))], at(0), at(2)) == ["a"]
