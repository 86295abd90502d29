"""Customers, supervisors and clerks at a deployment that a test plays, and the entries that tell of them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from holdfast.client import NotAnsweredError, RefusedError, RunView, Start, WaitingView
from pydantic import JsonValue

from loadtests.traffic import desk as desks
from loadtests.traffic import following
from loadtests.traffic.desk import Desk
from loadtests.traffic.entries import Entry
from loadtests.traffic.following import Follower

pytestmark = pytest.mark.unit
OK = Start("ok", "a", "202", 202)


@dataclass
class Played:
    """A deployment whose runs end at once, and wait before where they are held."""

    starts: Iterator[Start] = field(default_factory=lambda: iter(()))
    approvals: Iterator[Start] = field(default_factory=lambda: iter(()))
    looks: Iterator[RunView | Exception | None] = field(default_factory=lambda: iter(()))
    listed: Callable[[], list[RunView]] = list
    inputs: dict[str, Mapping[str, JsonValue]] = field(default_factory=dict[str, Mapping[str, JsonValue]])
    approved: set[str] = field(default_factory=set[str])
    waits: bool = True
    ended_at: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, run_id: str, run_input: Mapping[str, JsonValue]) -> Start:
        with self.lock:
            self.inputs[run_id] = run_input
            return next(self.starts, OK)

    def approve(self, run_id: str, call_id: str, *, approved: bool, who: str, message: str | None = None) -> Start:
        assert (approved, call_id) == (True, "the-call")
        answer = next(self.approvals, OK)
        if answer.outcome == "ok":
            self.approved.add(run_id)
        return answer

    def waiting(self, run_id: str) -> list[WaitingView]:
        if not self.waits:
            raise NotAnsweredError("nobody")
        return [] if run_id in self.approved else [WaitingView(tool_call_id="the-call", tool="await_supervisor")]

    def run(self, run_id: str) -> RunView | None:
        with self.lock:
            seen = next(self.looks, view("completed", self.ended_at))
        if isinstance(seen, Exception):
            raise seen
        return seen

    def runs(self, **_: Any) -> list[RunView]:
        return self.listed()


def view(status: str, at: float | None = None, *, run_id: str = "r", error: str | None = None) -> RunView:
    updated = datetime.fromtimestamp(at, UTC).isoformat() if at is not None else None
    return RunView(run_id=run_id, status=status, accepted_at="", updated_at=updated, error=error)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "FIRST_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(following, "LOOK_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(following, "IDLE_SECONDS", 0.005)
    monkeypatch.setattr(desks, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(desks, "DRAIN_AGAIN_SECONDS", 0.01)


@dataclass
class World:
    """A desk, what it stands on, and what it has told."""

    played: Played
    told: list[Entry]
    desk: Desk

    def run(self, starts: int = 1) -> list[Entry]:
        for _ in range(starts):
            self.desk.begin_start()
        self.desk.drain()
        return self.told

    def of(self, name: str) -> list[Entry]:
        return [entry for entry in self.told if entry.name == name]


@pytest.fixture
def world() -> Iterator[Callable[..., World]]:
    made: list[Desk] = []

    def make(played: Played | None = None, **options: Any) -> World:
        played, told = played or Played(), list[Entry]()
        made.append(Desk(played, [{"body": "one"}, {"body": "two"}], "load-", told.append, **options))
        return World(played, told, made[-1])

    yield make
    for desk in made:
        desk.close()


def test_each_start_and_each_end_is_told(world: Callable[..., World]) -> None:
    played = world()
    told = played.run(starts=3)
    assert Counter(entry.name for entry in told) == {"start": 3, "complete": 3}
    assert {entry.error for entry in told} == {None}
    assert set(played.played.inputs) == {"load-000001", "load-000002", "load-000003"}
    assert played.desk.open_count == 0


def test_a_start_without_an_answer_is_tried_again_under_the_same_id(world: Callable[..., World]) -> None:
    lost = [Start("unknown", "a", "ConnectError"), Start("unknown", "", "no region is active")]
    played = world(Played(starts=iter([*lost, Start("ok", "b", "202", 202)])))
    played.run()
    assert [(one.error, one.region) for one in played.of("retry")] == [
        ("ConnectError", "a"),
        ("no region is active", ""),
    ]
    (start,) = played.of("start")
    assert (start.error, start.region) == (None, "b")
    assert start.seconds >= 0.02
    assert list(played.played.inputs) == ["load-000001"]


def test_a_start_that_is_refused_or_never_answered_is_a_failure_of_its_kind(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = world(Played(starts=iter([Start("refused", "a", "409: exists", 409)])))
    assert [entry.error for entry in refused.run()] == ["409"]
    monkeypatch.setattr(desks, "START_SECONDS", -1.0)
    silent = world(Played(starts=iter([Start("unknown", "a", "503", 503)] * 9)))
    assert [entry.error for entry in silent.run()] == ["503"]


def test_another_region_that_answers_is_noticed(world: Callable[..., World]) -> None:
    played = world(Played(starts=iter([OK, Start("ok", "b", "202")])))
    played.run()
    assert played.desk.moved_at is None
    played.run()
    assert played.desk.moved_at == pytest.approx(time.time(), abs=5)


def test_a_held_run_is_let_go_and_its_time_counts_from_then(world: Callable[..., World]) -> None:
    played = world(held_every=2)
    played.desk.begin_start()
    played.desk.begin_start()
    deadline = time.monotonic() + 5
    while len(played.of("start")) < 2 or len(played.of("complete")) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "hold_seconds" in played.played.inputs["load-000002"]
    assert played.desk.open_count == 1
    played.desk.drain()
    (approved,) = played.of("approve")
    ended = next(entry for entry in played.of("complete") if entry.run_id == "load-000002")
    assert ended.at >= approved.at + approved.seconds


def test_a_decision_without_an_answer_is_made_again(world: Callable[..., World]) -> None:
    played = world(Played(approvals=iter([Start("unknown", "a", "503", 503)])), held_every=1)
    played.run()
    assert [entry.error for entry in played.of("approve")] == ["503", None]


def test_a_decision_that_is_refused_is_a_failure(world: Callable[..., World]) -> None:
    played = world(Played(approvals=iter([Start("refused", "a", "409: ended", 409)])), held_every=1)
    played.run()
    assert [entry.error for entry in played.of("approve")] == ["409"]


def test_a_held_run_that_never_waits_is_given_up(world: Callable[..., World]) -> None:
    played = world(Played(waits=False), held_every=1, give_up=0.05)
    played.run()
    assert [entry.error for entry in played.of("approve")] == ["did not wait within 0.05 s"]


def test_the_list_is_as_old_as_the_oldest_end_that_it_does_not_tell(world: Callable[..., World]) -> None:
    played = world()
    played.run()
    played.run()
    played.desk.look_at_list()
    assert [entry.seconds for entry in played.of("freshness")] == [0.0]
    first, second = (entry.at + entry.seconds for entry in played.of("complete"))
    played.played.listed = lambda: [view("scheduled", run_id=f"load-00000{number}") for number in (2, 1, 3)]
    played.desk.look_at_list()
    late = played.of("freshness")[-1]
    assert first < second
    assert late.seconds == pytest.approx(late.at - first, abs=1e-6)
    assert [entry.error for entry in played.of("list")] == [None, None]


def test_a_list_that_is_not_answered_tells_nothing_of_its_age(world: Callable[..., World]) -> None:
    def answer(error: Exception) -> Callable[[], list[RunView]]:
        def fail() -> list[RunView]:
            raise error

        return fail

    played = world()
    for error in (NotAnsweredError("nobody"), RefusedError(422, "no")):
        played.played.listed = answer(error)
        played.desk.look_at_list()
    assert [(entry.name, entry.error) for entry in played.told] == [("list", "no answer"), ("list", "422")]


@pytest.mark.parametrize(
    ("looks", "error"),
    [
        ([view("failed", 0.0, error="ModelHTTPError: 500")], "failed ModelHTTPError"),
        ([view("terminated", 0.0)], "terminated"),
        ([RefusedError(410, "tampered")], "410 when looked at"),
        ([None], "accepted and not known"),
        ([NotAnsweredError("later"), view("running"), view("completed")], None),
    ],
)
def test_how_a_run_ended_is_told(world: Callable[..., World], looks: list[Any], error: str | None) -> None:
    played = world(Played(looks=iter(looks)))
    played.run()
    assert [entry.error for entry in played.of("complete")] == [error]


def test_a_run_that_does_not_end_is_given_up(world: Callable[..., World]) -> None:
    played = world(Played(looks=iter([view("running")] * 1000)), give_up=0.05)
    played.run()
    assert [entry.error for entry in played.of("complete")] == ["not ended within 0.05 s"]


@pytest.mark.parametrize("clock", [0.0, -1000.0, 1000.0])
def test_an_end_lies_between_the_last_look_before_and_the_first_after_it_whatever_the_clock(clock: float) -> None:
    told: list[Entry] = []
    looked: list[float] = []

    class Clocked:
        def run(self, run_id: str) -> RunView:
            looked.append(time.time())
            return view("running") if len(looked) == 1 else view("completed", looked[-1] + clock)

    began = time.time()
    follower = Follower(Clocked(), told.append, 60)
    follower.follow("r", began)
    deadline = time.monotonic() + 5
    while not told:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    follower.stop()
    first, second = looked
    ended = began + told[0].seconds
    if clock == 0.0:
        assert ended == pytest.approx(second, abs=0.001)
    elif clock < 0:
        assert began <= ended <= first
    else:
        assert second <= ended <= time.time()
