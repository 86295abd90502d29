"""The lease is read from the quorum, and deleted only if neither key was written since."""

from __future__ import annotations

import asyncio
import base64
import itertools

import httpx
import pytest
from region_agent.etcd import Key, LeaseStore, QuorumUnreachableError

from tests.unit.region_agent.stand_ins import MemoryEtcd, client_of

pytestmark = pytest.mark.unit

ENDPOINTS = ["https://etcd-a", "https://etcd-w", "https://etcd-b"]


@pytest.fixture
def etcd() -> MemoryEtcd:
    etcd = MemoryEtcd()
    etcd.put("leader", "b")
    etcd.put("sync", "the state")
    return etcd


@pytest.fixture
def store(etcd: MemoryEtcd) -> LeaseStore:
    return LeaseStore(client_of(etcd), ENDPOINTS, "holdfast")


def read(store: LeaseStore, name: str) -> Key:
    return asyncio.run(store.read(name))


def test_a_key_is_read_with_the_revision_of_its_last_write(store: LeaseStore, etcd: MemoryEtcd) -> None:
    assert read(store, "leader") == Key("leader", "b", 11)
    etcd.put("leader", "b")
    assert read(store, "leader") == Key("leader", "b", 13)


def test_a_key_that_is_not_there_has_no_value(store: LeaseStore) -> None:
    assert read(store, "history") == Key("history", None, 0)


def test_the_lease_lasts_for_its_holder_alone(store: LeaseStore, etcd: MemoryEtcd) -> None:
    assert asyncio.run(store.seconds_left("b")) == 17
    assert asyncio.run(store.seconds_left("a")) == 0
    etcd.seconds_left = -1
    assert asyncio.run(store.seconds_left("b")) == 0
    etcd.keys.clear()
    assert asyncio.run(store.seconds_left("b")) == 0


def test_a_read_is_one_that_the_quorum_stands_behind(store: LeaseStore, etcd: MemoryEtcd) -> None:
    read(store, "leader")
    assert [body.keys() for _, _, body in etcd.asked] == [{"key"}]


@pytest.mark.parametrize("written", list(itertools.product([False, True], repeat=2)), ids=str)
def test_the_lease_is_deleted_only_if_neither_key_was_written_since_it_was_read(
    store: LeaseStore, etcd: MemoryEtcd, written: tuple[bool, bool]
) -> None:
    leader, sync = read(store, "leader"), read(store, "sync")
    for name, again in zip(("leader", "sync"), written, strict=True):
        if again:
            value = etcd.value(name)
            assert value is not None
            etcd.put(name, value)
    deleted = asyncio.run(store.delete_leader(leader, sync))
    assert deleted == (not any(written))
    assert etcd.value("leader") == (None if deleted else "b")
    assert etcd.value("sync") == "the state"


def test_the_transaction_compares_both_revisions_and_deletes_the_leader_key_alone(
    store: LeaseStore, etcd: MemoryEtcd
) -> None:
    asyncio.run(store.delete_leader(Key("leader", "b", 11), Key("sync", "the state", 12)))
    leader, sync = (base64.b64encode(f"/service/holdfast/{name}".encode()).decode() for name in ("leader", "sync"))
    assert etcd.asked == [
        (
            "etcd-a",
            "/v3/kv/txn",
            {
                "compare": [
                    {"key": leader, "target": "MOD", "result": "EQUAL", "mod_revision": "11"},
                    {"key": sync, "target": "MOD", "result": "EQUAL", "mod_revision": "12"},
                ],
                "success": [{"request_delete_range": {"key": leader}}],
            },
        )
    ]


def without(etcd: MemoryEtcd, host: str, failure: httpx.Response | Exception) -> LeaseStore:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host != host:
            return etcd(request)
        if isinstance(failure, Exception):
            raise failure
        return failure

    return LeaseStore(client_of(answer), ENDPOINTS, "holdfast")


FAILURES = {
    "refuses": httpx.ConnectError("refused"),
    "is-silent": httpx.ReadTimeout("silent"),
    "has-no-quorum": httpx.Response(503, json={"error": "etcdserver: request timed out"}),
    "talks-nonsense": httpx.Response(200, text="<html>"),
    "answers-another-shape": httpx.Response(200, json={"kvs": [{"value": "Yg=="}], "succeeded": "perhaps"}),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_member_that_gives_no_answer_is_passed_over(etcd: MemoryEtcd, failure: httpx.Response | Exception) -> None:
    store = without(etcd, "etcd-a", failure)
    assert read(store, "leader") == Key("leader", "b", 11)
    assert asyncio.run(store.delete_leader(read(store, "leader"), read(store, "sync")))
    assert {host for host, _, _ in etcd.asked} == {"etcd-w"}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_where_no_member_answers_there_is_no_quorum(failure: httpx.Response | Exception) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if isinstance(failure, Exception):
            raise failure
        return failure

    store = LeaseStore(client_of(answer), ENDPOINTS, "holdfast")
    with pytest.raises(QuorumUnreachableError, match="no etcd member answers for the quorum"):
        read(store, "leader")
    with pytest.raises(QuorumUnreachableError):
        asyncio.run(store.delete_leader(Key("leader", "b", 11), Key("sync", "", 12)))


def test_without_an_endpoint_there_is_no_quorum() -> None:
    with pytest.raises(QuorumUnreachableError, match="no endpoint is configured"):
        read(LeaseStore(client_of(MemoryEtcd()), [], "holdfast"), "leader")
