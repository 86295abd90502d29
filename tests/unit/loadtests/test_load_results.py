"""Entries are kept and read while they are written, and come to figures, an answer and a capacity."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from holdfast.client import NotAnsweredError, RunView

from loadtests.traffic import capacity as searching
from loadtests.traffic.capacity import next_rate, search, settle
from loadtests.traffic.entries import Book, Entry, Name, Tail
from loadtests.traffic.figures import figures, quantile
from loadtests.traffic.locusts import Load, Loaded, NotLoadedError
from loadtests.traffic.objectives import read_slo
from loadtests.traffic.results import Capacity, Results, Step, results_of

pytestmark = pytest.mark.unit
OBJECTIVES = read_slo().objectives


def entry(name: Name, at: float, seconds: float, error: str | None = None) -> Entry:
    return Entry(name=name, at=at, seconds=seconds, error=error)


def loaded(entries: list[Entry], *, seconds: float = 10.0) -> Loaded:
    return Loaded(Load("steady", 1.0, seconds, 5.0), 5.0, 5.0 + seconds, 1.25, entries)


def at_rate(rate: float, *, holds: bool = True, kept_up: bool = True) -> Results:
    """Ten seconds at a rate, with a start too slow where it must not hold, or ends that come too late."""
    moments = [5 + number / rate for number in range(round(10 * rate))]
    starts = [entry("start", at, 0.1 if holds else 2.0) for at in moments]
    ends = [entry("complete", at, 2.0 if kept_up else 9.0) for at in [3.2 + n / rate for n in range(round(10 * rate))]]
    results = results_of(loaded([*starts, *ends, entry("freshness", 6, 0)]), OBJECTIVES)
    return results.model_copy(update={"rate": rate})


def test_a_book_is_read_while_it_is_written_each_entry_once(tmp_path: Path) -> None:
    path = tmp_path / "loads" / "entries.jsonl"
    tail = Tail(path)
    assert tail.read() == []
    book = Book(path)
    first, second = entry("start", 1, 0.5), entry("complete", 1.5, 2, "failed")
    book(first)
    assert tail.read() == [first]
    with path.open("a") as file:
        file.write(second.model_dump_json()[:20])
    assert tail.read() == [first]
    with path.open("a") as file:
        file.write(second.model_dump_json()[20:] + "\n")
    assert tail.read() == tail.read() == [first, second]
    book.close()


def test_a_quantile_is_the_least_that_so_many_do_not_exceed() -> None:
    hundred = list(range(100, 0, -1))
    assert [quantile(hundred, share) for share in (0.5, 0.95, 0.99, 1)] == [50, 95, 99, 100]
    assert quantile([7.0], 0.99) == 7.0
    assert quantile([], 0.5) is None


def test_figures_are_of_what_went_well_and_failures_are_counted_by_kind() -> None:
    seen = [entry("start", 1, 0.1), entry("start", 1, 0.3), entry("start", 1, 30, "503"), entry("start", 1, 30, "503")]
    seen += [entry("start", 1, 5, "ConnectError"), entry("retry", 1, 5, "503")]
    start, *_, retry = figures(seen)
    assert (start.name, start.ok, start.failed, start.p50, start.worst) == ("start", 2, 3, 0.1, 0.3)
    assert list(start.errors.items()) == [("503", 2), ("ConnectError", 1)]
    assert (retry.name, retry.errors) == ("retry", {"503": 1})
    assert [one.name for one in figures([])] == ["start", "complete", "approve", "list", "freshness"]


def test_what_begins_in_the_warm_up_or_after_the_end_is_not_judged() -> None:
    seen = [entry("start", at, 0.1) for at in (4.9, 5.0, 14.9, 15.0)]
    seen += [entry("complete", 4.0, 2.0), entry("complete", 6.0, 20.0)]
    results = results_of(loaded(seen), OBJECTIVES)
    assert results.of("start").ok == 2
    assert results.started_per_second == 0.2
    assert results.of("complete").ok == 1
    assert results.ended_per_second == 0.1  # the one that ended meanwhile, not the one that began then


def test_the_answer_is_no_before_it_is_unknown() -> None:
    fine = [entry("start", 6, 0.1), entry("complete", 6, 1.0)]
    assert results_of(loaded(fine), OBJECTIVES).answer is None
    assert results_of(loaded([*fine, entry("freshness", 6, 1.0)]), OBJECTIVES).answer is True
    assert results_of(loaded([*fine, entry("start", 6, 9.0)]), OBJECTIVES).answer is False


def test_a_rate_holds_where_the_objectives_do_and_runs_end_as_quickly_as_they_start() -> None:
    assert Step(rate=2, results=at_rate(2)).holds
    assert not Step(rate=2, results=at_rate(2, holds=False)).holds
    piled = at_rate(2, kept_up=False)
    assert piled.answer is True
    assert not Step(rate=2, results=piled).holds
    assert not Step(rate=2, missing="why").holds


def measured(limit: float) -> Callable[[float], Results]:
    return lambda rate: at_rate(rate, holds=rate <= limit)


@pytest.mark.parametrize(
    ("limit", "rates"),
    [(5.0, [1, 2, 4, 8, 6, 5, 5.5]), (0.3, [1, 0.5, 0.2, 0.4, 0.3]), (100, [1, 2, 4, 8, 16])],
)
def test_the_rate_is_doubled_until_it_does_not_hold_and_then_halved_between(limit: float, rates: list[float]) -> None:
    steps = list(search(measured(limit), 1.0, 16.0, 20, time.monotonic() + 60))
    assert [step.rate for step in steps] == rates
    found = Capacity(machine="", measured_at=0, seconds=10, warm_up=5, steps=steps)
    assert found.holds_at == (16 if limit > 16 else limit)
    assert (found.missed_at or 99) > (found.holds_at or 0)


def test_a_search_in_which_nothing_holds_ends() -> None:
    steps = list(search(measured(0), 1.0, 16.0, 20, time.monotonic() + 60))
    assert [step.rate for step in steps] == [1, 0.5, 0.2, 0.1]
    assert Capacity(machine="", measured_at=0, seconds=1, warm_up=1, steps=steps).holds_at is None


def test_a_rate_that_held_above_one_that_did_not_is_not_the_capacity() -> None:
    steps = [Step(rate=4, results=at_rate(4)), Step(rate=2, results=at_rate(2, holds=False))]
    found = Capacity(machine="", measured_at=0, seconds=1, warm_up=1, steps=steps)
    assert (found.holds_at, found.missed_at) == (None, 2)
    assert next_rate(steps, 1.0, 16.0) == 1.0


def test_a_search_ends_with_its_steps_its_time_or_what_it_can_not_measure() -> None:
    assert len(list(search(measured(99), 1.0, 64.0, 3, time.monotonic() + 60))) == 3
    assert list(search(measured(99), 1.0, 64.0, 3, time.monotonic())) == []

    def fails(rate: float) -> Results:
        raise NotLoadedError("Locust ended")

    (step,) = search(fails, 1.0, 64.0, 9, time.monotonic() + 60)
    assert (step.results, step.missing) == (None, "Locust ended")
    assert next_rate([step], 1.0, 64.0) is None


def test_the_next_rate_waits_for_what_the_last_one_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "LOOK_SECONDS", 0.001)
    left = RunView(run_id="load-1", status="scheduled", accepted_at="")
    answers: Iterator[list[RunView] | None] = iter([[left], None, []])

    def open_runs() -> list[RunView]:
        answer = next(answers)
        if answer is None:
            raise NotAnsweredError("nobody")
        return answer

    settle(open_runs)
    with pytest.raises(NotLoadedError, match="last seen: 1 open, load-1 is one"):
        settle(lambda: [left], 0.01)
