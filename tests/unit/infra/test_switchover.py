"""A switchover is refused where it could lose something, and over only when both regions say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from infra import switchover
from infra.doors import Doors
from infra.local import supervisor
from infra.switchover import NotFinished, NotPossible, Phase, switch_over
from tests.support.deployments import ToldDoors, manifest

pytestmark = pytest.mark.unit


@pytest.fixture
def doors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToldDoors:
    monkeypatch.setattr(supervisor, "status", lambda _: {})
    monkeypatch.setattr(switchover, "_POLL_SECONDS", 0.01)
    return ToldDoors(manifest(tmp_path))


def move(doors: ToldDoors, to: str | None = None, **options: Any) -> switchover.Moved:
    return switch_over(cast("Doors", doors), to, **options)


def test_the_active_role_moves_to_the_standby(doors: ToldDoors) -> None:
    seen: list[Phase] = []
    moved = move(doors, on_phase=seen.append)

    assert doors.switched == [("a", "a", "b")]
    assert (moved.source, moved.target, moved.epoch) == ("a", "b", 4)
    assert tuple(seen) == moved.phases
    assert [phase.name for phase in seen] == [
        "the database of region b is primary",
        "region b is active",
        "region a is standby",
    ]
    assert moved.seconds == seen[-1].seconds


def test_it_moves_back_when_asked_to(doors: ToldDoors) -> None:
    move(doors)
    doors.members = [
        {"name": "b", "role": "leader", "state": "running"},
        {"name": "a", "role": "sync_standby", "state": "streaming"},
    ]

    assert move(doors, "a").target == "a"


@pytest.mark.parametrize(
    ("to", "because"),
    [("c", "there is no region 'c': there are a and b"), ("a", "region a is active already")],
)
def test_a_region_that_cannot_be_meant_is_refused(doors: ToldDoors, to: str, because: str) -> None:
    with pytest.raises(NotPossible, match=because):
        move(doors, to)


@pytest.mark.parametrize("member", [{"role": "replica"}, {"state": "stopped"}, {"state": "starting"}], ids=str)
def test_a_standby_that_lacks_something_is_refused(doors: ToldDoors, member: dict[str, str]) -> None:
    doors.members[1] |= member

    with pytest.raises(NotPossible, match="is no synchronous, streaming standby"):
        move(doors)
    assert doors.switched == []


def test_a_region_that_is_not_standby_is_refused(doors: ToldDoors) -> None:
    doors.agents["b"] = {"role": "activating"}
    with pytest.raises(NotPossible, match=r"region b is not standby \(activating\)"):
        move(doors)
    doors.agents["b"] = None
    with pytest.raises(NotPossible, match=r"region b is not standby \(no answer"):
        move(doors)


def test_without_an_active_region_it_is_refused(doors: ToldDoors) -> None:
    doors.agents["a"] = None

    with pytest.raises(NotPossible, match="no single region is active"):
        move(doors)


def test_a_refusal_by_patroni_is_passed_on(doors: ToldDoors) -> None:
    doors.refusal = "refused (412): no good candidates have been found"

    with pytest.raises(NotFinished, match="no good candidates"):
        move(doors)


def test_a_region_that_does_not_follow_is_named_with_what_it_said_last(
    doors: ToldDoors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "switch_over", lambda *_: "done")

    with pytest.raises(NotFinished, match="waited for region b to be active; last it said standby"):
        move(doors, deadline_seconds=0.05)

    def silence(*_: object) -> str:
        doors.agents["b"] = None
        return "done"

    monkeypatch.setattr(doors, "switch_over", silence)
    with pytest.raises(NotFinished, match="last it said no answer"):
        move(doors, deadline_seconds=0.05)
