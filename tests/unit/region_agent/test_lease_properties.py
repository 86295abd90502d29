"""Whatever is seen, a lease goes only when every condition holds, and a silence is never longer than it was."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from region_agent.etcd import Key
from region_agent.lease_release import LeaseView, ObserverView, OwnView, decide, names_standby
from region_agent.silence import OBSERVER_GAP_SECONDS, Silence

pytestmark = pytest.mark.unit

SILENCE = 3.0


def sync(leader: str | None = "b", standby: str | None = "a") -> str:
    return json.dumps({"leader": leader, "sync_standby": standby, "quorum": 0})


seconds = st.one_of(st.sampled_from([0.0, 2.999, 3.0, 3.001]), st.floats(0, 60))
owns = st.builds(
    OwnView,
    enabled=st.booleans(),
    region=st.just("a"),
    active=st.just("b"),
    was_streaming=st.booleans(),
    silent_seconds=seconds,
)
observers = st.none() | st.builds(ObserverView, silent_seconds=seconds, same_observer=st.booleans())
leaders = st.sampled_from([None, "a", "b", "c", ""])
states = st.one_of(
    st.none(),
    st.sampled_from(["", "{}", "nonsense", sync(), sync(), sync()]),
    st.builds(sync, leaders, st.sampled_from([None, "a", "b", "a,c", "c,a", "A", ""])),
)
leases = st.none() | st.builds(
    LeaseView,
    leader=st.builds(Key, st.just("leader"), leaders, st.integers(0)),
    sync=st.builds(Key, st.just("sync"), states, st.integers(0)),
)


@given(owns, observers, leases)
def test_whatever_is_seen_the_lease_goes_only_when_all_conditions_hold(
    own: OwnView, observer: ObserverView | None, read: LeaseView | None
) -> None:
    everything = (
        own.enabled
        and own.was_streaming
        and own.silent_seconds >= SILENCE
        and observer is not None
        and observer.same_observer
        and observer.silent_seconds >= SILENCE
        and read is not None
        and read.leader.value == "b"
        and read.sync.value == sync()
    )
    assert (decide(own, observer, read, SILENCE) == "released") == everything


@pytest.mark.parametrize(
    "state",
    [
        None,
        "",
        "nonsense",
        "[]",
        "null",
        "{}",
        sync(leader="c"),
        sync(leader=None),
        sync(standby=None),
        sync(standby=""),
        sync(standby="c"),
        sync(standby="a,c"),
        sync(leader="a", standby="b"),
        '{"leader": "b", "sync_standby": ["a"]}',
    ],
)
def test_a_standby_that_is_not_the_only_synchronous_one_is_not_named(state: str | None) -> None:
    assert not names_standby(state, "b", "a")


def test_the_synchronous_standby_is_named_whatever_else_patroni_writes_there() -> None:
    assert names_standby('{"leader": "b", "sync_standby": "a", "version": 7}', "b", "a")


# Eighths of a second add up without an error of rounding.
pauses = st.integers(1, 32).map(lambda eighths: eighths / 8)
looks = st.lists(st.tuples(pauses, st.booleans()), min_size=1, max_size=40)


@given(looks, pauses | st.just(0.0))
def test_a_silence_is_counted_only_over_looks_without_an_answer_and_without_a_gap(
    given_looks: list[tuple[float, bool]], later: float
) -> None:
    silence, now, seen = Silence(), 0.0, list[tuple[float, bool]]()
    for pause, answered in given_looks:
        now += pause
        silence.observe(answered, now)
        seen.append((now, answered))
    counted = silence.seconds(now + later)
    if counted == 0:
        return
    assert later <= OBSERVER_GAP_SECONDS
    within = [look for look in seen if look[0] >= now - counted]
    assert within[0][0] == now - counted
    assert not any(answered for _, answered in within)
    assert all(b[0] - a[0] <= OBSERVER_GAP_SECONDS for a, b in itertools.pairwise(within))


@given(st.lists(pauses.filter(lambda pause: pause <= OBSERVER_GAP_SECONDS), min_size=1, max_size=40))
def test_a_silence_without_a_gap_is_counted_whole(pauses: list[float]) -> None:
    silence, now = Silence(), 0.0
    silence.observe(True, now)
    for pause in pauses:
        now += pause
        silence.observe(False, now)
    assert silence.seconds(now) == sum(pauses[1:])
