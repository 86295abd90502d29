"""A standby gives up a lost region's lease on what the quorum says at that moment, and on nothing that it remembers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from region_agent import peer
from region_agent.config import AgentConfig, EarlyReleaseConfig
from region_agent.etcd import LeaseStore
from region_agent.events import EventLog
from region_agent.patroni import Member
from region_agent.peer import CALM_SECONDS, SUSPICIOUS_SECONDS, PeerWatch
from region_agent.silence import OBSERVER_GAP_SECONDS

from tests.unit.region_agent.stand_ins import Clock, MemoryEtcd, client_of

pytestmark = pytest.mark.unit

STREAMING = Member(role="replica", state="running", timeline=4, replication_state="streaming")
Told = Callable[[], list[dict[str, Any]]]


class Standby:
    """Region b's watch over region a, and everything that it reaches."""

    def __init__(self, config: AgentConfig, events: EventLog, clock: Clock) -> None:
        self.clock = clock
        self.etcd = MemoryEtcd()
        self.etcd.put("leader", "a")
        self.synchronous("b")
        self.answering = {"peer", "etcd-peer"}
        self.witness: object = {"boot_id": "first", "targets": {"a": {"silent_seconds": 60.0}}}
        self.asked: list[str] = []
        self.own: Member | None = STREAMING
        store = LeaseStore(client_of(self._quorum), [config.etcd, *config.etcd_others], config.patroni_scope)
        self.watch = PeerWatch(config, client_of(self._link), store, events)

    def synchronous(self, standby: str | None) -> None:
        self.etcd.put("sync", json.dumps({"leader": "a", "sync_standby": standby}))

    def look(self, seconds: float) -> None:
        """Look as often as the watch wants to for so long."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now += asyncio.run(self.watch.look(self.own))

    def lose(self) -> None:
        """The other region is heard once, and never again."""
        self.look(CALM_SECONDS)
        self.answering.clear()

    @property
    def lease_is_held(self) -> bool:
        return self.etcd.value("leader") is not None

    def _link(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        self.asked.append(host)
        if host == "observer" and self.witness is not None:
            return httpx.Response(200, json=self.witness)
        if host in self.answering:
            return httpx.Response(503)
        raise httpx.ConnectTimeout("silent")

    def _quorum(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        return self.etcd(request)


@pytest.fixture
def standby(config: AgentConfig, events: EventLog, monkeypatch: pytest.MonkeyPatch) -> Standby:
    clock = Clock()
    monkeypatch.setattr(peer, "time", clock)
    return Standby(config, events, clock)


def decisions(told: Told) -> list[str]:
    return [one["reason"] for one in told() if one["event"] == "early-release"]


def test_a_lost_regions_lease_is_gone_after_three_seconds_and_not_before(standby: Standby) -> None:
    standby.lose()
    standby.look(2.9)
    assert standby.lease_is_held
    standby.look(0.4)
    assert not standby.lease_is_held
    assert standby.etcd.value("sync") is not None


@pytest.mark.parametrize("half", ["peer", "etcd-peer"])
def test_a_region_of_which_one_half_answers_keeps_its_lease(standby: Standby, half: str) -> None:
    standby.lose()
    standby.answering = {half}
    standby.look(30)
    assert standby.lease_is_held
    assert standby.watch.last_decision is None


def test_one_answer_within_the_silence_starts_it_anew(standby: Standby) -> None:
    standby.lose()
    for _ in range(5):
        standby.look(2.5)
        standby.answering = {"peer"}
        standby.look(0.1)
        standby.answering = set()
    assert standby.lease_is_held


@pytest.mark.parametrize("key", ["leader", "sync"])
def test_a_key_that_is_written_between_reading_and_deleting_keeps_the_lease(
    standby: Standby, told: Told, key: str
) -> None:
    def overtake(path: str) -> None:
        if path == "/v3/kv/txn":
            standby.etcd.put(key, standby.etcd.value(key) or "")

    standby.etcd.before = overtake
    standby.lose()
    standby.look(5)
    assert standby.lease_is_held
    assert decisions(told) == ["overtaken"]


def test_the_quorum_is_asked_after_the_observer_in_every_decision(standby: Standby) -> None:
    standby.lose()
    standby.asked.clear()
    standby.look(3.3)
    decision = standby.asked[standby.asked.index("/v3/kv/range") - 1 :]
    assert decision[:4] == ["observer", "/v3/kv/range", "/v3/kv/range", "/v3/kv/txn"]


def test_a_standby_that_was_taken_off_the_list_meanwhile_releases_nothing(standby: Standby, told: Told) -> None:
    standby.lose()
    standby.look(2)
    standby.synchronous(None)
    standby.look(10)
    assert standby.lease_is_held
    assert decisions(told) == ["not-synchronous"]


@pytest.mark.parametrize(
    "own",
    [
        None,
        STREAMING.model_copy(update={"replication_state": "in archive recovery"}),
        STREAMING.model_copy(update={"replication_state": None}),
        STREAMING.model_copy(update={"role": "primary"}),
    ],
    ids=["silent", "archive", "none", "primary"],
)
def test_a_database_that_did_not_stream_when_the_silence_began_releases_nothing_whatever_it_does_later(
    standby: Standby, told: Told, own: Member | None
) -> None:
    standby.own = own
    standby.lose()
    standby.own = STREAMING
    standby.look(10)
    assert standby.lease_is_held
    assert decisions(told) == ["not-a-streaming-standby"]


def test_a_stream_that_ends_with_the_silence_has_no_say(standby: Standby) -> None:
    standby.lose()
    standby.own = STREAMING.model_copy(update={"replication_state": None})
    standby.look(4)
    assert not standby.lease_is_held


@pytest.mark.parametrize(
    "witness",
    [None, {"boot_id": "first", "targets": {}}, {"targets": {"a": {"silent_seconds": 9.0}}}, [], "nonsense"],
    ids=["silent", "another-region", "no-boot", "list", "text"],
)
def test_a_witness_without_an_opinion_is_not_one(standby: Standby, told: Told, witness: object) -> None:
    standby.lose()
    standby.look(1)
    standby.witness = witness
    standby.look(10)
    assert standby.lease_is_held
    assert decisions(told) == ["observer-unreachable"]


def test_a_witness_that_could_not_be_asked_when_the_silence_began_may_have_been_restarted(
    standby: Standby, told: Told
) -> None:
    standby.lose()
    witness, standby.witness = standby.witness, None
    standby.look(1)
    standby.witness = witness
    standby.look(10)
    assert standby.lease_is_held
    assert decisions(told) == ["observer-restarted"]


def test_an_agent_that_was_frozen_counts_its_silence_from_when_it_woke(standby: Standby) -> None:
    standby.lose()
    standby.look(2.5)
    standby.clock.now += OBSERVER_GAP_SECONDS + 0.1
    standby.look(2.5)
    assert standby.lease_is_held
    standby.look(1)
    assert not standby.lease_is_held


def test_where_it_is_turned_off_nothing_is_released(
    config: AgentConfig, events: EventLog, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(peer, "time", clock)
    off = config.model_copy(update={"early_release": EarlyReleaseConfig(enabled=False)})
    standby = Standby(off, events, clock)
    standby.lose()
    standby.look(30)
    assert standby.lease_is_held
    assert decisions(told) == ["disabled"]


def test_the_silence_that_is_asked_for_is_waited_for(
    config: AgentConfig, events: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(peer, "time", clock)
    patient = config.model_copy(update={"early_release": EarlyReleaseConfig(silence_seconds=8)})
    standby = Standby(patient, events, clock)
    standby.lose()
    standby.look(7.9)
    assert standby.lease_is_held
    standby.look(0.4)
    assert not standby.lease_is_held


def test_a_decision_is_told_with_the_revisions_that_it_was_made_on(standby: Standby, told: Told) -> None:
    standby.lose()
    standby.look(3.3)
    decision = next(one for one in told() if one["event"] == "early-release")
    silent = decision.pop("silent_seconds")
    decision.pop("at")
    assert 3.0 <= silent < 3.2
    assert decision == {
        "event": "early-release",
        "decision": "released",
        "reason": "released",
        "leader_revision": 11,
        "sync_revision": 12,
    }


def test_a_reason_is_told_when_it_changes(standby: Standby, told: Told) -> None:
    standby.lose()
    witness, standby.witness = standby.witness, {"boot_id": "first", "targets": {"a": {"silent_seconds": 0.5}}}
    standby.look(5)
    standby.witness = witness
    standby.look(5)
    assert decisions(told) == ["answers-the-observer", "released", "lease-not-held"]
    assert standby.watch.decisions == {"answers-the-observer": 1, "released": 1, "lease-not-held": 1}


def test_a_second_loss_is_told_and_counted_again(standby: Standby, told: Told) -> None:
    for _ in range(2):
        standby.etcd.put("leader", "a")
        standby.answering = {"peer"}
        standby.lose()
        standby.look(3.3)
    assert decisions(told) == ["released", "lease-not-held"] * 2
    assert standby.watch.decisions == {"released": 2, "lease-not-held": 2}


def test_a_region_that_was_active_meanwhile_remembers_nothing(standby: Standby, told: Told) -> None:
    standby.lose()
    standby.look(2.5)
    standby.watch.rest()
    standby.look(4)
    assert standby.lease_is_held
    assert decisions(told) == ["not-a-streaming-standby"]


def test_silence_is_looked_at_more_often_than_life(standby: Standby) -> None:
    assert asyncio.run(standby.watch.look(STREAMING)) == CALM_SECONDS
    standby.answering.clear()
    assert asyncio.run(standby.watch.look(STREAMING)) == SUSPICIOUS_SECONDS
