"""Each fault strikes where it is told to, shows what it did, and can be taken back more than once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from chaos.faults import FAULTS, NotInjectedError, NotLiftedError, abilities, data, fault_named
from chaos.faults import links as link_kinds
from chaos.faults import processes as process_kinds
from chaos.faults.data import Diverge, PauseReplay, ResetSessions
from chaos.faults.links import Flap, Links, paths
from chaos.faults.local import ABILITIES
from chaos.faults.processes import CrashLoop, Freeze, KillTogether, RollingRestart, Stutter
from chaos.faults.processes import WorkerCrash as Crash
from chaos.faults.processes import WorkerCrashAfterStep as AfterStep
from chaos.faults.target import Disturbance, Moment, Part, Path, Place, Struck, at_once

pytestmark = pytest.mark.unit

AT = 100.0


@dataclass
class ToldTarget:
    """Does nothing, and remembers what it was asked for; every strike is proven unless a test says otherwise."""

    did: list[str] = field(default_factory=list)
    workers: dict[str, int] = field(default_factory=lambda: {"worker-1": 31, "worker-2": 32})
    hands: list[dict[int, set[str]]] = field(default_factory=list)
    rows: Callable[[str], list[tuple[object, ...]]] = lambda statement: []
    proven: bool = True
    gone: bool = False

    def can(self, ability: str) -> str:
        return ""

    def running(self, place: Place, part: Part) -> dict[str, int]:
        return dict(self.workers)

    def in_hand(self) -> dict[int, set[str]]:
        return self.hands.pop(0) if len(self.hands) > 1 else self.hands[0]

    def kill(self, place: Place, part: Part, only: Collection[str] = (), moment: Moment = at_once) -> Struck:
        moment()
        killed = [] if self.gone else [self.workers[name] for name in sorted(only or self.workers)]
        self.gone = False
        return self._did("kill", place, part, only, killed=killed)

    def freeze(self, place: Place, part: Part, only: Collection[str] = (), moment: Moment = at_once) -> Struck:
        moment()
        return self._did("freeze", place, part, only, frozen=[7])

    def stop(self, place: Place, part: Part, only: Collection[str] = ()) -> Struck:
        return self._did("stop", place, part, only, killed=[8])

    def resume(self, place: Place, part: Part) -> None:
        self._did("resume", place, part)

    def start(self, place: Place, part: Part, only: Collection[str] = ()) -> None:
        self._did("start", place, part, only)

    def disturb(self, paths: Sequence[Path], how: Disturbance) -> Struck:
        return self._did("disturb", " ".join(f"{one.source}{one.target}" for one in paths), how.kind)

    def heal(self) -> None:
        self._did("heal", "", "")

    def sql(self, place: Place, statement: str) -> list[tuple[object, ...]]:
        self.did.append(f"sql {place}")
        return self.rows(statement)

    def wipe_reminders(self, place: Place) -> Struck:
        return self._did("wipe", place, "scheduler")

    def wipe_database(self, place: Place) -> Struck:
        return self._did("wipe", place, "database")

    def move_lease_leader(self) -> Struck:
        return self._did("move", "", "")

    def switch_over(self, to: Place) -> Struck:
        return self._did("switch", to, "")

    def _did(self, what: str, place: str, part: str, only: Collection[str] = (), **more: Any) -> Struck:
        self.did.append(" ".join(filter(None, [what, place, part, *sorted(only)])))
        return Struck(AT, {"what": what}, self.proven, **more)


@pytest.fixture
def target() -> ToldTarget:
    return ToldTarget()


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (process_kinds, data):
        monkeypatch.setattr(module, "POLL_SECONDS", 0.001)
    for name in ("BUSY_SECONDS", "LOOP_SECONDS", "ROLL_SECONDS"):
        monkeypatch.setattr(process_kinds, name, 0.05)
    monkeypatch.setattr(data, "SECONDS", 0.05)
    monkeypatch.setattr(data, "STORM_SECONDS", 0.01)


def nobody() -> set[str]:
    return set()


def test_every_fault_has_a_name_a_sentence_and_needs_what_a_target_can_offer() -> None:
    for name, kind in FAULTS.items():
        assert name == kind.name
        assert kind.does[0].isupper() or kind.does[0].isdigit()
        assert not kind.does.endswith(".")
        assert kind.needs
        assert kind.needs <= ABILITIES
    assert abilities(["isolate", "pause-replay"]) == {"links", "sql"}


def test_a_fault_that_there_is_not_is_refused_with_those_there_are() -> None:
    with pytest.raises(KeyError, match=r"there is no fault 'flood'; there are .*isolate"):
        fault_named("flood")


SIMPLE = [
    ("region-loss", ["kill a everything"], ["start a everything"]),
    ("kill-workers-and-sidecars", ["kill a worker", "kill a sidecar"], ["start a worker", "start a sidecar"]),
    ("freeze-region", ["freeze a everything"], ["resume a everything"]),
    ("stop-database", ["stop a patroni"], ["start a patroni"]),
    ("wipe-reminders", ["wipe a scheduler"], ["start a scheduler"]),
    ("lose-database", ["wipe a database"], ["start a patroni"]),
    ("isolate", ["disturb ab aw ba wa cut"], ["heal"]),
    ("split", ["disturb ab ba cut"], ["heal"]),
    ("mute", ["disturb ab aw drop"], ["heal"]),
    ("deafen", ["disturb ba wa drop"], ["heal"]),
    ("latency-60", ["disturb ab ba delay"], ["heal"]),
    ("move-lease-leader", ["move"], []),
    ("switchover", ["switch a"], []),
]


@pytest.mark.parametrize(("name", "struck", "lifted"), SIMPLE)
def test_a_fault_goes_where_it_is_told_and_back(
    target: ToldTarget, name: str, struck: list[str], lifted: list[str]
) -> None:
    kind = fault_named(name)
    assert kind.inject(target, "a", nobody).proven
    assert target.did == struck
    target.did.clear()
    kind.lift(target, "a")
    kind.lift(target, "a")
    assert target.did == lifted * 2
    target.proven = False
    assert not kind.inject(target, "a", nobody).proven


@pytest.mark.parametrize("name", ["region-loss", "kill-workers-and-sidecars", "freeze-worker", "lose-both-databases"])
def test_a_fault_that_strikes_in_doubt_waits_for_its_moment(target: ToldTarget, name: str) -> None:
    before: list[list[str]] = []

    def moment() -> set[str]:
        before.append(list(target.did))
        return set()

    assert fault_named(name).in_doubt
    fault_named(name).inject(target, "a", moment)
    assert before == [[]]


def test_links_of_a_place_are_all_that_touch_it() -> None:
    assert paths("around", "w") == [Path("w", "a"), Path("w", "b"), Path("a", "w"), Path("b", "w")]
    assert paths("between regions", "w", "postgres") == [Path("a", "b", "postgres"), Path("b", "a", "postgres")]


@pytest.mark.parametrize(
    ("name", "place", "cut_off"),
    [
        ("isolate", "a", ["a"]),
        ("mute", "b", ["b"]),
        ("isolate", "w", []),
        ("split", "a", []),
        ("latency-20", "a", []),
        ("freeze-region", "a", ["a"]),
        ("freeze-worker", "a", []),
    ],
)
def test_a_region_that_nobody_can_tell_to_stop_is_cut_off(
    target: ToldTarget, name: str, place: Place, cut_off: list[str]
) -> None:
    assert list(fault_named(name).inject(target, place, nobody).cut_off) == cut_off


@pytest.mark.parametrize(
    ("name", "lasts"),
    [
        ("region-loss", True),
        ("freeze-worker", True),
        ("isolate", True),
        ("stop-sentry", True),
        ("lose-both-databases", True),
        ("lose-database", True),
        ("kill-sentry", False),
        ("kill-workers-and-sidecars", False),
        ("switchover", False),
        ("wipe-reminders", False),
    ],
)
def test_what_comes_back_by_itself_is_over_when_it_was_injected(target: ToldTarget, name: str, lasts: bool) -> None:
    assert (fault_named(name).inject(target, "a", nobody).until is None) is lasts


def test_both_databases_are_lost_before_either_is_kept_down(target: ToldTarget) -> None:
    fault_named("lose-both-databases").inject(target, "a", nobody)
    assert [one.split()[0] for one in target.did] == ["kill"] * 4 + ["stop"] * 4


def test_several_strikes_are_proven_where_each_is() -> None:
    strikes = [Struck(2.0, {"x": 1}, True, killed=[1]), Struck(1.0, {"x": 2}, False, killed=[2], frozen=[3])]
    whole = process_kinds.together(strikes)
    assert (whole.at, whole.killed, whole.frozen, whole.proven) == (1.0, [1, 2], [3], False)
    assert whole.evidence == {"1 x": 1, "2 x": 2}
    assert process_kinds.together(strikes[:1]).evidence == {"x": 1}
    assert not process_kinds.together([]).proven


class TestCrashingAWorker:
    def test_the_worker_with_most_in_hand_is_crashed(self, target: ToldTarget) -> None:
        target.hands = [{31: {"r:1"}, 32: {"r:2", "r:3"}}]
        struck = Crash().inject(target, "a", nobody)
        assert target.did == ["kill a worker worker-2"]
        assert struck.evidence == {"worker": "worker-2", "in-progress": ["r:2", "r:3"], "what": "kill"}
        assert struck.proven

    def test_the_busiest_worker_is_crashed_as_soon_as_it_is_in_an_effect_itself(self, target: ToldTarget) -> None:
        target.hands = [{31: {"r:1"}, 32: {"r:2", "r:3"}}]
        moments = [{"worker-1"}, {"worker-of-b"}, {"worker-1", "worker-2"}]
        struck = Crash().inject(target, "a", lambda: moments.pop(0))
        assert (struck.killed, struck.proven, moments) == ([32], True, [])

    def test_a_worker_that_is_never_seen_in_an_effect_is_crashed_all_the_same(self, target: ToldTarget) -> None:
        target.hands = [{31: {"r:1"}}]
        assert Crash().inject(target, "a", lambda: {"worker-of-b"}).killed == [31]

    def test_a_crash_that_cut_nothing_is_not_proven(self, target: ToldTarget) -> None:
        target.hands = [{31: {"r:1"}}, {}]
        assert not Crash().inject(target, "a", lambda: {"worker-1"}).proven

    def test_a_worker_that_was_replaced_before_its_moment_is_looked_for_again(self, target: ToldTarget) -> None:
        target.hands, target.gone = [{31: {"r:1"}}], True
        assert Crash().inject(target, "a", nobody).proven
        assert target.did == ["kill a worker worker-1"] * 2

    def test_where_no_worker_is_busy_none_is_crashed(self, target: ToldTarget) -> None:
        target.hands = [{77: {"r:1"}}]
        with pytest.raises(NotInjectedError, match="no worker of a was in the middle of an operation"):
            Crash().inject(target, "a", nobody)
        assert target.did == []

    def test_a_worker_is_crashed_as_soon_as_it_has_ended_an_operation(self, target: ToldTarget) -> None:
        target.hands = [{32: {"r:1", "r:2"}}, {32: {"r:1", "r:2"}}, {32: {"r:2"}}]
        struck = AfterStep().inject(target, "a", nobody)
        assert target.did == ["kill a worker worker-2"]
        assert struck.evidence["just-ended"] == ["r:1"]

    def test_where_no_worker_ends_anything_none_is_crashed(self, target: ToldTarget) -> None:
        target.hands = [{}]
        with pytest.raises(NotInjectedError, match="no worker of a ended an operation"):
            AfterStep().inject(target, "a", nobody)

    @pytest.mark.parametrize("kind", [Crash(), AfterStep(), RollingRestart()])
    def test_afterwards_the_workers_run(self, target: ToldTarget, kind: Any) -> None:
        kind.lift(target, "a")
        assert target.did == ["start a worker"]


def test_one_worker_is_frozen_as_soon_as_it_is_in_an_effect(target: ToldTarget) -> None:
    kind = fault_named("freeze-worker")
    moments = [{"worker-2", "of-b"}, {"worker-1"}]
    assert kind.inject(target, "a", lambda: moments.pop(0)).frozen == [7]
    assert (target.did, moments) == (["freeze a worker worker-1"], [])
    target.workers = {}
    with pytest.raises(NotInjectedError, match="no worker runs at a"):
        kind.inject(target, "a", nobody)


def test_a_crash_loop_strikes_as_often_as_the_part_comes_back(target: ToldTarget) -> None:
    struck = CrashLoop("loop", "Loops", "database").inject(target, "a", nobody)
    assert struck.proven
    assert struck.evidence["crashes"] == struck.strikes == len(target.did) > 2


def test_a_part_that_never_came_back_was_in_no_crash_loop(target: ToldTarget) -> None:
    target.workers = {}
    assert not CrashLoop("loop", "Loops", "database").inject(target, "a", nobody).proven


def test_workers_are_restarted_in_turn_and_each_works_before_the_next(target: ToldTarget) -> None:
    target.hands = [{31: {"r:1"}, 32: {"r:2"}}]
    struck = RollingRestart().inject(target, "a", nobody)
    assert target.did == [
        "stop a worker worker-1",
        "start a worker worker-1",
        "stop a worker worker-2",
        "start a worker worker-2",
    ]
    assert (struck.killed, struck.proven, struck.strikes) == ([8, 8], True, 2)


def test_a_worker_that_does_not_work_again_stops_the_rolling(target: ToldTarget) -> None:
    target.hands = [{}]
    with pytest.raises(NotInjectedError, match="for worker-1 to execute again"):
        RollingRestart().inject(target, "a", nobody)


def test_a_region_stutters_at_the_same_moments_each_time(target: ToldTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(process_kinds.time, "sleep", slept.append)
    first = Stutter().inject(target, "a", nobody)
    assert target.did == ["freeze a everything", "resume a everything"] * 5
    assert (first.evidence, first.frozen, first.cut_off) == ({"freezes": 5, "proven": 5}, [7] * 5, ["a"])
    assert first.strikes == 5
    again = list(slept)
    slept.clear()
    Stutter().inject(target, "a", nobody)
    assert slept == again
    Stutter().lift(target, "a")


def test_a_place_flaps_so_often_and_is_whole_in_between(target: ToldTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_kinds.time, "sleep", lambda _: None)
    struck = Flap().inject(target, "b", nobody)
    assert target.did == ["disturb ba bw ab wb cut", "heal"] * 4
    assert (struck.evidence, struck.cut_off, struck.strikes) == ({"cuts": 4, "proven": 4}, ["b"], 4)
    Flap().lift(target, "b")
    assert target.did[-1] == "heal"


class TestPausingReplay:
    @staticmethod
    def standby(replayed: list[str], ahead: bool = True, paused: bool = True) -> Callable[[str], list[Any]]:
        def rows(statement: str) -> list[Any]:
            if statement == data._REPLAYED:
                return [(replayed.pop(0) if len(replayed) > 1 else replayed[0], paused)]
            return [(ahead,)]

        return rows

    def test_it_is_shown_by_what_is_received_and_not_applied(self, target: ToldTarget) -> None:
        target.rows = self.standby(["0/5"])
        assert PauseReplay().inject(target, "b", nobody).proven

    @pytest.mark.parametrize("changes", [{"replayed": ["0/5", "0/6"]}, {"ahead": False}, {"paused": False}], ids=str)
    def test_a_standby_that_goes_on_shows_nothing(self, target: ToldTarget, changes: dict[str, Any]) -> None:
        target.rows = self.standby(**({"replayed": ["0/5"]} | changes))
        assert not PauseReplay().inject(target, "b", nobody).proven

    def test_a_standby_that_was_promoted_has_nothing_to_resume(self, target: ToldTarget) -> None:
        target.rows = lambda _: [(False,)]
        PauseReplay().lift(target, "b")
        assert target.did == ["sql b"]

    @pytest.mark.parametrize("paused", [True, False])
    def test_a_standby_applies_again_or_it_is_told(self, target: ToldTarget, paused: bool) -> None:
        target.rows = self.standby(["0/5"], ahead=True, paused=paused)
        if paused:
            with pytest.raises(NotLiftedError, match="the database of b still applies nothing"):
                PauseReplay().lift(target, "b")
        else:
            PauseReplay().lift(target, "b")


@pytest.mark.parametrize(("positions", "proven"), [(["0/5", "0/6"], True), (["0/5", "0/5"], False)])
def test_a_primary_that_diverged_has_written(target: ToldTarget, positions: list[str], proven: bool) -> None:
    left = list(positions)
    target.rows = lambda statement: [(left.pop(0),)] if statement == data._WRITTEN else []
    assert Diverge().inject(target, "a", nobody).proven is proven
    Diverge().lift(target, "a")


@pytest.mark.parametrize(("ended", "proven"), [(3, True), (0, False)])
def test_sessions_are_ended_over_and_over(target: ToldTarget, ended: int, proven: bool) -> None:
    target.rows = lambda _: [(ended,)]
    struck = ResetSessions().inject(target, "a", nobody)
    assert struck.proven is proven
    assert len(target.did) > 1
    ResetSessions().lift(target, "a")


def test_the_witness_can_not_be_made_active(target: ToldTarget) -> None:
    with pytest.raises(NotInjectedError, match="the witness can't be active"):
        fault_named("switchover").inject(target, "w", nobody)


def test_kinds_hold_no_state() -> None:
    for kind in FAULTS.values():
        with pytest.raises(AttributeError):
            kind.name = "other"  # type: ignore[misc]
    assert isinstance(FAULTS["freeze-region"], Freeze)
    assert isinstance(FAULTS["lose-both-databases"], KillTogether)
    assert isinstance(FAULTS["isolate"], Links)
