"""On a game day a seed chooses the fault, its symptom alone is told, and the operator is timed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chaos.faults import NotInjectedError
from chaos.history import Claim, Fault
from chaos.runbooks import gameday
from chaos.runbooks.gameday import GameDay, choose
from chaos.runbooks.page import Runbook, Trouble, runbooks
from tests.support.deployments import manifest

pytestmark = pytest.mark.unit


@dataclass
class ToldSession:
    """A session whose clients are served, and whose deployment is whole, after so many looks."""

    directory: Path
    served_after: int = 2
    whole_after: int = 3
    looks: int = 0
    refuses: bool = False
    runs: int = 24
    did: list[str] = field(default_factory=list)
    injected: list[Fault] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.manifest = manifest(self.directory)

    def wait_healthy(self, _: float) -> bool:
        self.did.append("healthy")
        return True

    def wait_active(self) -> str:
        return "a"

    def begin_load(self) -> int:
        return 24

    def hold_in_flight(self, _: int) -> bool:
        return True

    def inject(self, name: str, where: str) -> Fault:
        if self.refuses:
            raise NotInjectedError("nobody is active")
        self.injected.append(Fault(name=name, target=where, at=gameday.time.time(), proven=True))
        return self.injected[-1]

    def note(self, fault: Fault) -> Fault:
        self.injected.append(fault)
        return fault

    def lift(self) -> list[str]:
        self.did.append("lift")
        return []

    def wait_ended(self) -> bool:
        self.did.append("ended")
        return True

    def accepted_since(self, _: float) -> bool:
        self.looks += 1
        return self.looks >= self.served_after

    def executed_since(self, _: float) -> bool:
        return True

    def problems(self, _: object) -> list[str]:
        self.looks += 1
        return [] if self.looks >= self.whole_after else ["a region does not run"]


def page(name: str, **changes: Any) -> Runbook:
    made: dict[str, Any] = {
        "name": name,
        "path": Path(f"{name}.md"),
        "title": "Region loss",
        "symptom": "It is gone.",
        "decision": "Wait.",
        "fault": Trouble("region-loss", "active"),
        "before": None,
        "not_drilled": None,
        "steps": (),
    }
    return Runbook(**(made | changes))


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToldSession:
    made = ToldSession(tmp_path / "local")
    monkeypatch.setattr(gameday, "observe", lambda manifest: manifest)
    monkeypatch.setattr(gameday, "problems", made.problems)
    monkeypatch.setattr(gameday, "POLL_SECONDS", 0.001)
    return made


def game(session: ToldSession, said: list[str], operator: str | None = None, give_up: float = 5.0) -> GameDay:
    return GameDay(session, page("region-loss"), said.append, operator, give_up)  # type: ignore[arg-type]


def test_the_same_seed_chooses_the_same_runbook_in_any_order() -> None:
    pages = runbooks()
    chosen = [choose(pages, seed) for seed in range(40)]
    assert [choose(pages[::-1], seed) for seed in range(40)] == chosen
    assert len({one.name for one in chosen}) > 4


def test_only_what_an_operator_can_end_is_chosen() -> None:
    mends_itself = next(one for one in runbooks() if any(step.lifts for step in one.steps))
    unfit = [
        page("not-drilled", not_drilled="in a cloud only"),
        page("planned", fault=None),
        page("after", before=Trouble("switchover", "standby")),
        mends_itself,
    ]
    assert choose([*unfit, page("fit")], 3).name == "fit"
    with pytest.raises(LookupError, match="no runbook has a fault"):
        choose(unfit, 3)


def test_the_operator_is_told_the_symptom_and_timed_until_all_is_whole(session: ToldSession) -> None:
    said: list[str] = []
    played = game(session, said)
    journal = played.play()
    assert any("It is gone." in line for line in said)
    assert not any("Region loss" in line for line in said)
    assert played.served is not None
    assert played.whole is not None
    assert played.served <= played.whole
    assert journal["runbook"] == "region-loss"
    assert [one.held for one in session.claims] == [True]
    assert [one.name for one in session.injected] == ["region-loss", "operator"]
    assert session.did == ["healthy", "lift", "healthy", "ended"]


@pytest.mark.parametrize(("served", "detail"), [(10**6, "clients were not served"), (1, "it was not whole")])
def test_an_operator_who_does_not_bring_it_back_is_told_so(session: ToldSession, served: int, detail: str) -> None:
    session.served_after, session.whole_after = served, 10**6
    played = game(session, [], give_up=0.05)
    played.play()
    assert played.whole is None
    assert [(one.held, one.detail) for one in session.claims] == [(False, detail)]
    assert "lift" in session.did


def test_a_command_may_play_the_operator(session: ToldSession, tmp_path: Path) -> None:
    session.served_after, session.whole_after = 1, 1
    game(session, [], operator=f"echo $ACTIVE $STANDBY > {tmp_path / 'did'}").play()
    assert (tmp_path / "did").read_text() == "a b\n"


def test_a_command_that_does_not_end_is_ended(session: ToldSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gameday, "END_SECONDS", 0.01)
    session.served_after, session.whole_after = 1, 1
    began = gameday.time.monotonic()
    game(session, [], operator="sleep 60").play()
    assert gameday.time.monotonic() - began < 10


def test_without_a_fault_there_is_no_game(session: ToldSession) -> None:
    session.refuses = True
    said: list[str] = []
    game(session, said).play()
    assert (said, session.claims) == ([], [])
