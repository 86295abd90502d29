"""A standby's database that was promoted past Patroni is copied anew, and no other one is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from region_agent import rejoin
from region_agent.config import AgentConfig
from region_agent.events import EventLog
from region_agent.patroni import Member
from region_agent.rejoin import ASTRAY_SECONDS, Rejoin

from tests.unit.region_agent.stand_ins import Clock, OverError, client_of

pytestmark = pytest.mark.unit

# Patroni tells the timeline that it followed before.
ASTRAY = Member(role="replica", state="running", timeline=4)
Told = Callable[[], list[dict[str, Any]]]


class Standby:
    """Region b, whose database went astray while region a holds the lease on timeline 4."""

    def __init__(self, config: AgentConfig, events: EventLog, clock: Clock) -> None:
        self.clock = clock
        self.holder: dict[str, Any] = {"name": "a", "role": "leader", "state": "running", "timeline": 4}
        self.silent: set[str] = set()
        self.asked: list[float] = []
        self.timeline: int | None = 5
        self.rejoin = Rejoin(config, client_of(self._patroni), events, lambda: self.timeline)

    def look(self, seconds: float, own: Member | None = ASTRAY) -> None:
        until = self.clock.now + seconds
        while self.clock.now < until:
            asyncio.run(self.rejoin.look(own))
            self.clock.now += 0.5

    def _patroni(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path in self.silent:
            raise httpx.ConnectError("refused")
        if path == "/reinitialize":
            assert json.loads(request.content) == {"from_leader": True}
            self.asked.append(self.clock.now)
            return httpx.Response(200, text="reinitialize started")
        own = {"name": "b", "role": "replica", "state": "running", "timeline": 5}
        return httpx.Response(200, json={"/cluster": {"members": [self.holder, own]}, "/config": {}}[path])


@pytest.fixture
def standby(config: AgentConfig, events: EventLog, monkeypatch: pytest.MonkeyPatch) -> Standby:
    clock = Clock()
    monkeypatch.setattr(rejoin, "time", clock)
    return Standby(config, events, clock)


def test_a_database_ahead_of_the_holder_is_copied_anew_once_patroni_has_had_its_time(
    standby: Standby, told: Told
) -> None:
    standby.look(ASTRAY_SECONDS)
    assert not standby.asked
    standby.look(1.0)
    assert standby.asked == [1000.0 + ASTRAY_SECONDS]
    event = told()[-1]
    assert (event["event"], event["timeline"], event["holders"]) == ("database-astray", 5, 4)
    assert event["answer"] == "200: reinitialize started"


def test_patroni_is_asked_again_as_long_afterwards(standby: Standby, told: Told) -> None:
    standby.silent = {"/reinitialize"}
    standby.look(ASTRAY_SECONDS + 0.5)
    assert told()[-1]["answer"] == "ConnectError"
    standby.silent = set()
    standby.look(ASTRAY_SECONDS)
    assert not standby.asked
    standby.look(1.0)
    assert len(standby.asked) == 1


@pytest.mark.parametrize(
    "own",
    [
        None,
        ASTRAY.model_copy(update={"role": "primary"}),
        ASTRAY.model_copy(update={"state": "starting"}),
        ASTRAY.model_copy(update={"replication_state": "streaming"}),
    ],
)
def test_a_database_that_is_no_standby_or_may_follow_yet_is_left_alone(standby: Standby, own: Member | None) -> None:
    standby.look(3 * ASTRAY_SECONDS, own)
    assert not standby.asked


@pytest.mark.parametrize("timeline", [None, 3, 4])
def test_a_database_that_is_not_ahead_of_the_holder_is_left_alone(standby: Standby, timeline: int | None) -> None:
    standby.timeline = timeline
    standby.look(3 * ASTRAY_SECONDS)
    assert not standby.asked


@pytest.mark.parametrize(
    "holder",
    [{"role": "replica"}, {"state": "stopping"}, {"timeline": None}, {"timeline": 5}, {"name": "b"}],
)
def test_without_a_holder_who_runs_on_an_older_timeline_nothing_is_thrown_away(
    standby: Standby, holder: dict[str, Any]
) -> None:
    standby.holder |= holder
    standby.look(3 * ASTRAY_SECONDS)
    assert not standby.asked


def test_where_patroni_does_not_tell_of_the_others_nothing_is_thrown_away(standby: Standby) -> None:
    standby.silent = {"/cluster"}
    standby.look(3 * ASTRAY_SECONDS)
    assert not standby.asked


def test_time_in_which_it_was_being_rewound_does_not_count(standby: Standby) -> None:
    standby.look(ASTRAY_SECONDS)
    standby.look(1.0, ASTRAY.model_copy(update={"state": "stopped"}))
    standby.look(ASTRAY_SECONDS)
    assert not standby.asked


def test_it_goes_on_looking_at_what_the_database_has_become(standby: Standby, monkeypatch: pytest.MonkeyPatch) -> None:
    members = iter([ASTRAY] * 30)
    clock = Clock(*[lambda: None] * 25)
    monkeypatch.setattr(rejoin, "time", clock)
    standby.clock = clock
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    with pytest.raises(OverError):
        asyncio.run(standby.rejoin.watch(lambda: next(members)))
    assert standby.asked == [1000.0 + ASTRAY_SECONDS]
