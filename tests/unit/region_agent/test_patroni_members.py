"""A region is active only on a member that says three things at once: primary, running, and on which timeline."""

from __future__ import annotations

import asyncio
from itertools import product

import httpx
import pytest
from region_agent.patroni import Member, answers, read_member
from region_agent.role import wanted_role

from tests.unit.region_agent.stand_ins import client_of

pytestmark = pytest.mark.unit

ROLES = ("primary", "master", "replica", "standby_leader", "demoted", "uninitialized")
STATES = ("running", "starting", "restarting", "stopping", "stopped", "stop failed", "crashed", "start failed")


@pytest.mark.parametrize(("role", "state", "timeline"), list(product(ROLES, STATES, (None, 4))))
def test_every_member_gives_the_role_that_it_can_answer_for(role: str, state: str, timeline: int | None) -> None:
    wanted = wanted_role(Member(role=role, state=state, timeline=timeline))
    primary = role in ("primary", "master")
    if primary and state == "running" and timeline is not None:
        assert (wanted.role, wanted.epoch) == ("active", timeline)
    elif not primary or state in ("stopping", "stopped"):
        assert (wanted.role, wanted.epoch) == ("standby", timeline or 0)
    else:
        assert wanted.role == "unclear"


@pytest.mark.parametrize(
    ("role", "replication", "streams"),
    [
        ("replica", "streaming", True),
        ("replica", "in archive recovery", False),
        ("replica", None, False),
        ("primary", "streaming", False),
    ],
)
def test_only_a_standby_that_follows_now_streams(role: str, replication: str | None, streams: bool) -> None:
    assert Member(role=role, state="running", replication_state=replication).is_streaming is streams


def test_a_member_is_read_whatever_else_it_says_and_with_whatever_status() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "https://own/primary"
        body = {"role": "replica", "state": "running", "timeline": 4, "xlog": {"paused": False}, "sync_standby": True}
        return httpx.Response(503, json=body)

    member = asyncio.run(read_member(client_of(answer), "https://own"))
    assert member == Member(role="replica", state="running", timeline=4, sync_standby=True, leads=False)


@pytest.mark.parametrize(("status", "wanted"), [(200, "active"), (503, "unclear")])
def test_a_primary_without_the_lease_makes_no_region_active(status: int, wanted: str) -> None:
    body = {"role": "primary", "state": "running", "timeline": 5}
    member = asyncio.run(read_member(client_of(lambda request: httpx.Response(status, json=body)), "https://own"))
    assert wanted_role(member).role == wanted


@pytest.mark.parametrize("status", [200, 401, 404, 500, 503])
def test_every_answer_is_a_sign_of_life(status: int) -> None:
    assert asyncio.run(answers(client_of(lambda request: httpx.Response(status)), "https://own/liveness"))


@pytest.mark.parametrize("failure", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError])
def test_no_answer_is_none(failure: type[httpx.HTTPError]) -> None:
    def silence(request: httpx.Request) -> httpx.Response:
        raise failure("silent")

    assert not asyncio.run(answers(client_of(silence), "https://own/liveness"))
