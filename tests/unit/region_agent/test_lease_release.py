"""A lease goes ahead of its TTL only if every condition holds, and nothing has changed since they were read."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import httpx
import pytest
from region_agent.config import AgentConfig
from region_agent.etcd import Key, LeaseStore, QuorumUnreachableError
from region_agent.events import EventLog
from region_agent.lease_release import LeaseView, ObserverView, OwnView, decide, names_standby
from region_agent.patroni import Member
from region_agent.peer import CALM_SECONDS, SUSPICIOUS_SECONDS, PeerWatch
from region_agent.silence import OBSERVER_GAP_SECONDS, Silence

pytestmark = pytest.mark.unit

SILENCE = 3.0
OWN = OwnView(enabled=True, region="b", active="a", was_streaming=True, silent_seconds=SILENCE)
OBSERVER = ObserverView(silent_seconds=SILENCE, same_observer=True)
SYNC = json.dumps({"leader": "a", "sync_standby": "b"})
LEASE = LeaseView(leader=Key("leader", "a", 7), sync=Key("sync", SYNC, 9))

OWN_FAULTS = {
    "disabled": replace(OWN, enabled=False),
    "not-a-streaming-standby": replace(OWN, was_streaming=False),
    "answers-here": replace(OWN, silent_seconds=SILENCE - 0.01),
}
OBSERVER_FAULTS = {
    "observer-unreachable": None,
    "observer-restarted": replace(OBSERVER, same_observer=False),
    "answers-the-observer": replace(OBSERVER, silent_seconds=SILENCE - 0.01),
}
LEASE_FAULTS = {
    "no-quorum": None,
    "lease-not-held": replace(LEASE, leader=Key("leader", None, 0)),
    "lease-held-by-another": replace(LEASE, leader=Key("leader", "b", 8)),
    "not-synchronous": replace(LEASE, sync=Key("sync", json.dumps({"leader": "a", "sync_standby": None}), 9)),
}


def test_a_lease_goes_when_every_condition_holds() -> None:
    assert decide(OWN, OBSERVER, LEASE, SILENCE) == "released"


@pytest.mark.parametrize(
    ("owns", "observers", "leases"),
    list(product([None, *OWN_FAULTS], [None, *OBSERVER_FAULTS], [None, *LEASE_FAULTS])),
)
def test_any_missing_condition_keeps_it_and_the_first_is_told(
    owns: str | None, observers: str | None, leases: str | None
) -> None:
    own = OWN_FAULTS[owns] if owns else OWN
    observer = OBSERVER_FAULTS[observers] if observers else OBSERVER
    lease = LEASE_FAULTS[leases] if leases else LEASE
    assert decide(own, observer, lease, SILENCE) == (owns or observers or leases or "released")


@pytest.mark.parametrize(
    ("sync", "named"),
    [
        (SYNC, True),
        (json.dumps({"leader": "b", "sync_standby": "a"}), False),
        (json.dumps({"leader": "a", "sync_standby": "b,c"}), False),
        (json.dumps({"leader": "a"}), False),
        ("no JSON", False),
        (None, False),
    ],
)
def test_the_standby_must_be_the_only_synchronous_one(sync: str | None, named: bool) -> None:
    assert names_standby(sync, "a", "b") is named


def test_one_answer_ends_a_silence() -> None:
    silence = Silence()
    for now in (10.0, 11.0, 12.0):
        silence.observe(False, now)
    assert silence.seconds(12.5) == 2.0
    silence.observe(True, 13.0)
    assert silence.seconds(13.0) == 0.0


def test_an_observer_that_was_frozen_knows_nothing_of_that_time() -> None:
    silence = Silence()
    silence.observe(False, 10.0)
    assert silence.seconds(10.0 + OBSERVER_GAP_SECONDS + 1) == 0.0
    silence.observe(False, 20.0)
    silence.observe(False, 21.0)
    assert silence.seconds(21.0) == 1.0


@dataclass
class World:
    """The other region, the observer and etcd, as the standby's agent reaches them."""

    peer_answers: bool = True
    boot_id: str = "first"
    observer_silent: float = SILENCE
    observer_answers: bool = True
    quorum: bool = True
    leader: str | None = "a"
    overtaken: bool = False
    transactions: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        host, path = request.url.host, request.url.path
        if host in ("peer", "etcd-peer"):
            return self._or_silent(self.peer_answers, {})
        if host == "observer":
            seen = {"boot_id": self.boot_id, "targets": {"a": {"silent_seconds": self.observer_silent}}}
            return self._or_silent(self.observer_answers, seen)
        if not self.quorum:
            return httpx.Response(503)
        body = json.loads(request.content)
        if path == "/v3/kv/txn":
            self.transactions.append(body)
            return httpx.Response(200, json={"succeeded": not self.overtaken})
        name = base64.b64decode(body["key"]).decode().rpartition("/")[2]
        value = self.leader if name == "leader" else SYNC
        pairs = [{"value": base64.b64encode(value.encode()).decode(), "mod_revision": "7"}] if value else []
        return httpx.Response(200, json={"kvs": pairs})

    def _or_silent(self, answers: bool, content: object) -> httpx.Response:
        if not answers:
            raise httpx.ConnectError("silent")
        return httpx.Response(200, json=content)


STREAMING = Member(role="replica", state="running", timeline=1, replication_state="streaming")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("region_agent.peer.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def watch(config: AgentConfig, events: EventLog, world: World) -> PeerWatch:
    client = httpx.AsyncClient(transport=httpx.MockTransport(world))
    return PeerWatch(config, client, LeaseStore(client, [config.etcd, *config.etcd_others], "holdfast"), events)


def looks(watch: PeerWatch, clock: list[float], own: Member | None = STREAMING, seconds: float = 4.0) -> float:
    async def follow() -> float:
        pause, until = 0.0, clock[0] + seconds
        while clock[0] < until:
            pause = await watch.look(own)
            clock[0] += pause
        return pause

    return asyncio.run(follow())


def test_a_region_that_answers_is_left_in_peace(watch: PeerWatch, world: World, clock: list[float]) -> None:
    assert looks(watch, clock) == CALM_SECONDS
    assert world.transactions == []


def test_a_lost_region_loses_its_lease_in_one_compared_transaction(
    watch: PeerWatch, world: World, clock: list[float], told: Callable[[], list[dict[str, Any]]]
) -> None:
    looks(watch, clock, seconds=1)
    world.peer_answers = False
    assert looks(watch, clock) == SUSPICIOUS_SECONDS
    compared = world.transactions[0]["compare"]
    names = [base64.b64decode(one["key"]).decode() for one in compared]
    assert names == ["/service/holdfast/leader", "/service/holdfast/sync"]
    assert {(one["target"], one["result"], one["mod_revision"]) for one in compared} == {("MOD", "EQUAL", "7")}
    deleted = world.transactions[0]["success"][0]["request_delete_range"]["key"]
    assert base64.b64decode(deleted).decode() == "/service/holdfast/leader"
    decisions = [(one["decision"], one["reason"]) for one in told() if one["event"] == "early-release"]
    assert decisions == [("released", "released")]
    assert watch.decisions == {"released": 1}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"observer_answers": False}, "observer-unreachable"),
        ({"observer_silent": 0.2}, "answers-the-observer"),
        ({"quorum": False}, "no-quorum"),
        ({"leader": None}, "lease-not-held"),
        ({"leader": "b"}, "lease-held-by-another"),
        ({"overtaken": True}, "overtaken"),
    ],
)
def test_a_refusal_is_logged_and_counted_once_with_its_reason(
    watch: PeerWatch,
    world: World,
    clock: list[float],
    told: Callable[[], list[dict[str, Any]]],
    changes: dict[str, Any],
    reason: str,
) -> None:
    looks(watch, clock, seconds=1)
    world.peer_answers = False
    for name, value in changes.items():
        setattr(world, name, value)
    looks(watch, clock, seconds=6)
    decisions = [(one["decision"], one["reason"]) for one in told() if one["event"] == "early-release"]
    assert decisions == [("refused", reason)]
    assert watch.decisions == {reason: 1}


def test_an_observer_that_was_restarted_meanwhile_is_no_witness(
    watch: PeerWatch, world: World, clock: list[float]
) -> None:
    looks(watch, clock, seconds=1)
    world.peer_answers = False
    looks(watch, clock, seconds=1)
    world.boot_id = "second"
    looks(watch, clock)
    assert watch.last_decision == "observer-restarted"
    assert world.transactions == []


def test_a_standby_that_did_not_stream_when_the_silence_began_keeps_its_hands_off(
    watch: PeerWatch, world: World, clock: list[float]
) -> None:
    looks(watch, clock, own=STREAMING.model_copy(update={"replication_state": None}), seconds=1)
    world.peer_answers = False
    looks(watch, clock, own=STREAMING)
    assert watch.last_decision == "not-a-streaming-standby"


def test_a_region_that_answers_again_is_told(
    watch: PeerWatch, world: World, clock: list[float], told: Callable[[], list[dict[str, Any]]]
) -> None:
    looks(watch, clock, seconds=1)
    world.peer_answers = False
    looks(watch, clock, seconds=1)
    world.peer_answers = True
    looks(watch, clock, seconds=1)
    assert [one["event"] for one in told()] == ["silence-began", "silence-ended"]
    watch.rest()
    assert watch.silence.since is None


def test_the_next_member_is_asked_where_one_gives_no_answer() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "first":
            return httpx.Response(200, text="<html>")
        return httpx.Response(200, json={"kvs": []})

    store = LeaseStore(
        httpx.AsyncClient(transport=httpx.MockTransport(answer)), ["https://first", "https://second"], "holdfast"
    )
    assert asyncio.run(store.read("leader")) == Key("leader", None, 0)


def test_a_quorum_that_is_lost_while_deleting_releases_nothing(
    config: AgentConfig, events: EventLog, world: World, clock: list[float]
) -> None:
    class LostThen(LeaseStore):
        async def delete_leader(self, leader: Key, sync: Key) -> bool:
            raise QuorumUnreachableError("gone")

    client = httpx.AsyncClient(transport=httpx.MockTransport(world))
    watch = PeerWatch(config, client, LostThen(client, [config.etcd], "holdfast"), events)
    looks(watch, clock, seconds=1)
    world.peer_answers = False
    looks(watch, clock)
    assert watch.last_decision == "no-quorum"
