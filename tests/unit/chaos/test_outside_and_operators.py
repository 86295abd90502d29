"""Faults of providers, payments and operators count as injected once they were met, and are taken back for certain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import JsonValue

from chaos.faults import FAULTS, NotInjectedError, NotLiftedError, outside
from chaos.faults.operators import PromoteByHand
from chaos.faults.outside import LoseReplies, ModelTrouble
from chaos.faults.tampering import TamperHistory
from chaos.faults.target import Struck

pytestmark = pytest.mark.unit


@dataclass
class World:
    """A target with the services outside it; each look meets more trouble."""

    did: list[str] = field(default_factory=list)
    meets: int = 3
    stays: bool = False
    conditions: dict[str, Any] = field(default_factory=lambda: {"first": None, "second": None})
    answered: dict[str, dict[str, int]] = field(default_factory=lambda: {"first": {"well": 7}, "second": {}})
    to_lose: int = 0
    lost: int = 5
    rows: list[list[tuple[object, ...]]] = field(default_factory=list)

    def control(self, service: str, method: str, path: str, body: JsonValue = None) -> JsonValue:
        if service == "payments":
            return self._payments(method, body)
        name = path.rpartition("/")[2]
        if method == "GET":
            for one, condition in self.conditions.items():
                if condition:
                    counts = self.answered[one]
                    counts[condition["trouble"]] = counts.get(condition["trouble"], 0) + self.meets
            return {
                one: {"condition": self.conditions[one], "answered": dict(self.answered[one])}
                for one in self.conditions
            }
        self.did.append(f"{method} {name}")
        if method == "PUT" or not self.stays:
            self.conditions[name] = body
        return None

    def _payments(self, method: str, body: Any) -> JsonValue:
        if method == "PUT":
            self.did.append(f"lose {body['to_lose']}")
            self.to_lose = body["to_lose"]
        gone = min(self.to_lose, self.meets)
        self.to_lose, self.lost = self.to_lose - gone, self.lost + gone
        return {"to_lose": self.to_lose, "lost": self.lost}

    def sql(self, place: str, statement: str) -> list[tuple[object, ...]]:
        self.did.append(f"sql {place} {statement}")
        return self.rows.pop(0)

    def kill(self, place: str, part: str) -> Struck:
        self.did.append(f"kill {place} {part}")
        return Struck(0.0)

    def __getattr__(self, name: str) -> Any:
        def do(*arguments: object) -> Struck:
            self.did.append(" ".join(map(str, (name, *arguments))))
            return Struck(1.0, proven=True)

        return do


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(outside, "MET_SECONDS", 0.05)
    monkeypatch.setattr(outside, "POLL_SECONDS", 0.001)
    return World()


def nobody() -> set[str]:
    return set()


def inject(world: Any, fault: Any) -> Struck:
    return fault.inject(world, "a", nobody)


def test_a_models_trouble_is_in_force_once_enough_requests_have_met_it(world: World) -> None:
    struck = inject(world, ModelTrouble("x", "X", "failing", met=12))
    assert world.did == ["PUT first", "PUT second"]
    assert world.conditions["first"] == {"trouble": "failing", "seconds": 0.0, "requests": None}
    assert struck.proven
    assert struck.evidence == {"trouble": "failing", "answered-so": 12, "simulated": True}


def test_a_models_trouble_that_nobody_meets_is_not_proven(world: World) -> None:
    world.meets = 0
    assert not inject(world, ModelTrouble("x", "X", "failing")).proven


def test_the_trouble_of_one_provider_says_how_many_the_other_has_answered(world: World) -> None:
    struck = inject(world, ModelTrouble("x", "X", "failing", met=3, providers=("first",)))
    assert world.did == ["PUT first"]
    assert struck.evidence["second-answered"] == 0


def test_a_models_trouble_is_lifted_more_than_once_and_made_sure_of(world: World) -> None:
    fault: Any = ModelTrouble("x", "X", "failing")
    inject(world, fault)
    fault.lift(world, "a")
    fault.lift(world, "a")
    assert world.conditions == {"first": None, "second": None}
    inject(world, fault)
    world.stays = True
    with pytest.raises(NotLiftedError, match="first, second are still in trouble"):
        fault.lift(world, "a")


def test_replies_count_as_lost_once_payments_has_lost_them(world: World) -> None:
    fault: Any = LoseReplies(6)
    struck = inject(world, fault)
    assert (struck.proven, struck.evidence) == (True, {"replies-lost": 6})
    world.meets = 0
    assert not inject(world, fault).proven
    fault.lift(world, "a")
    assert world.did[-1] == "lose 0"


def test_payments_that_says_nothing_sensible_is_no_evidence(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "control", lambda *_: [])
    with pytest.raises(NotInjectedError, match="how many replies were lost"):
        inject(world, LoseReplies())


def test_a_promotion_by_hand_needs_a_standby(world: World) -> None:
    fault: Any = PromoteByHand()
    world.rows = [[(True,)], [(True,)]]
    assert inject(world, fault).proven
    assert "pg_promote" in world.did[-1]
    world.rows = [[(True,)], [(False,)]]
    assert not inject(world, fault).proven
    world.rows = [[(False,)]]
    with pytest.raises(NotInjectedError, match="primary already"):
        inject(world, fault)
    fault.lift(world, "a")


@pytest.mark.parametrize(
    ("name", "struck", "lifted"),
    [
        ("fail-over-by-hand", "fail_over_by_hand a", None),
        ("expire-certificate", "expire_certificate a", "renew_certificate a"),
        ("starve-api", "starve a api files", "sate a api"),
        ("starve-worker-of-memory", "starve a worker memory", "sate a worker"),
        ("throttle-worker", "throttle a worker 0.05 15.0", "resume a worker"),
    ],
)
def test_an_operators_mistake_is_made_where_it_is_told(
    world: World, name: str, struck: str, lifted: str | None
) -> None:
    fault: Any = FAULTS[name]
    inject(world, fault)
    assert world.did == [struck]
    fault.lift(world, "a")
    assert world.did[1:] == ([lifted] if lifted else [])


def test_a_history_is_tampered_with_in_one_row_which_is_then_read_anew(world: World) -> None:
    fault: Any = TamperHistory()
    world.rows = [[("run-1", "x||run-1||history-000004", "before")], [("after",)]]
    struck = inject(world, fault)
    assert struck.proven
    assert struck.evidence["tampered"] == "run-1"
    assert "'x||run-1||history-000004'" in world.did[1]
    assert world.did[2] == "kill a sidecar"
    world.rows = [[("run-1", "o'key", "same")], [("same",)]]
    assert not inject(world, fault).proven
    assert "'o''key'" in world.did[-2]
    world.rows = [[]]
    with pytest.raises(NotInjectedError, match="no held run"):
        inject(world, fault)
    fault.lift(world, "a")
