"""A region is active exactly while its database is primary, and changes its role in an order that is safe."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from region_agent import activation, agent, pairs
from region_agent.activation import ActivationError, RegionProcesses
from region_agent.agent import RegionAgent
from region_agent.config import AgentConfig
from region_agent.etcd import LeaseStore
from region_agent.events import EventLog
from region_agent.pairs import Pairs
from region_agent.patroni import Member, read_member
from region_agent.peer import PeerWatch
from region_agent.role import RoleFile, Wanted, wanted_role
from region_agent.supervisor import SupervisorError
from region_agent.sweep import Sweeper
from run_index import IndexUnavailableError

pytestmark = pytest.mark.unit
Told = Callable[[], list[dict[str, Any]]]

PRIMARY = Member(role="primary", state="running", timeline=4)
REPLICA = Member(role="replica", state="running", timeline=4, replication_state="streaming")


@pytest.mark.parametrize(
    ("member", "wanted"),
    [
        (PRIMARY, Wanted("active", 4)),
        (Member(role="master", state="running", timeline=4), Wanted("active", 4)),
        (REPLICA, Wanted("standby", 4)),
        (Member(role="demoted", state="stopped"), Wanted("standby", 0)),
        (Member(role="primary", state="stopping"), Wanted("standby", 0)),
        (Member(role="primary", state="stopped"), Wanted("standby", 0)),
        (Member(role="primary", state="restarting"), Wanted("unclear")),
        (Member(role="primary", state="crashed"), Wanted("unclear")),
        (Member(role="primary", state="running"), Wanted("unclear")),
        (None, Wanted("unclear")),
    ],
)
def test_the_databases_role_is_the_regions(member: Member | None, wanted: Wanted) -> None:
    assert wanted_role(member) == wanted


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), httpx.ConnectError("refused")])
def test_a_member_that_says_nothing_sensible_is_unknown(answer: httpx.Response | Exception) -> None:
    def respond(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = httpx.AsyncClient(transport=httpx.MockTransport(respond))
    assert asyncio.run(read_member(client, "https://own")) is None


def test_the_role_file_says_since_when(tmp_path: Path) -> None:
    file = RoleFile(tmp_path / "deep" / "role.json", "b")
    assert file.read() is None
    first = file.write("active", 1)
    assert file.read() == first
    second = file.write("active", 2)
    assert (second.since, second.epoch) == (first.since, 2)
    assert file.write("standby", 2).since > first.since
    file.path.write_text("{")
    assert file.read() is None


@dataclass
class FakeSupervisor:
    """Remembers what was started and stopped, with what the role file said at that moment."""

    role_file: RoleFile
    up: dict[str, int] = field(default_factory=dict)
    log: list[tuple[str, str, str | None]] = field(default_factory=list)
    broken: bool = False

    async def running(self) -> dict[str, int]:
        if self.broken:
            raise SupervisorError("no answer")
        return dict(self.up)

    async def start(self, process: str) -> None:
        await self._did("start", process)
        self.up.setdefault(process, len(self.log) + 1000)

    async def stop(self, process: str) -> None:
        await self._did("stop", process)
        self.up.pop(process, None)

    async def _did(self, what: str, process: str) -> None:
        if self.broken:
            raise SupervisorError("no answer")
        role = self.role_file.read()
        self.log.append((what, process, role.role if role else None))


@dataclass
class Sidecars:
    """Two sidecars' HTTP interfaces; each has a worker or not."""

    workers: dict[int, int] = field(default_factory=lambda: {101: 1, 102: 1})
    healthy: bool = True

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if not self.healthy:
            raise httpx.ConnectError("refused")
        if request.url.path == "/v1.0/metadata":
            return httpx.Response(200, json={"workflows": {"connectedWorkers": self.workers[request.url.port or 0]}})
        return httpx.Response(204)


@pytest.fixture
def role_file(config: AgentConfig) -> RoleFile:
    return RoleFile(config.role_file, config.region)


@pytest.fixture
def supervisor(role_file: RoleFile) -> FakeSupervisor:
    return FakeSupervisor(role_file)


@pytest.fixture
def sidecars() -> Sidecars:
    return Sidecars()


@pytest.fixture
def processes(
    config: AgentConfig, supervisor: Any, role_file: RoleFile, events: EventLog, sidecars: Sidecars
) -> RegionProcesses:
    dapr = httpx.AsyncClient(transport=httpx.MockTransport(sidecars))
    return RegionProcesses(config, supervisor, role_file, events, dapr)


def test_an_activation_is_told_first_and_ends_with_workers(
    processes: RegionProcesses, supervisor: FakeSupervisor, role_file: RoleFile, told: Told
) -> None:
    role = asyncio.run(processes.activate(3))
    assert [entry for entry in supervisor.log if entry[0] == "start"][-3:] == [
        ("start", "scheduler", "activating"),
        ("start", "daprd-1", "activating"),
        ("start", "daprd-2", "activating"),
    ]
    assert (role.role, role.epoch) == ("active", 3)
    assert role_file.read() == role
    assert [one["event"] for one in told()][-1] == "activated"


def test_reminders_of_another_epoch_are_wiped_and_those_of_this_one_kept(
    processes: RegionProcesses, config: AgentConfig, supervisor: FakeSupervisor
) -> None:
    data = config.scheduler.data_dir
    data.mkdir()
    asyncio.run(processes.activate(3))
    assert not data.exists()
    assert ("stop", "scheduler", "activating") in supervisor.log
    data.mkdir()
    asyncio.run(processes.activate(3))
    assert data.exists()
    asyncio.run(processes.deactivate(3))
    assert not data.exists()
    data.mkdir()
    asyncio.run(processes.activate(4))
    assert data.exists()  # the scheduler was started fresh when the region became standby


def test_work_stops_before_anything_else_when_the_region_becomes_standby(
    processes: RegionProcesses, supervisor: FakeSupervisor
) -> None:
    asyncio.run(processes.activate(3))
    supervisor.log.clear()
    role = asyncio.run(processes.deactivate(3))
    assert role.role == "standby"
    assert {said for _, _, said in supervisor.log} == {"standby"}
    assert [process for what, process, _ in supervisor.log if what == "stop"] == ["daprd-1", "daprd-2", "scheduler"]
    asyncio.run(processes.deactivate(3))


def test_one_worker_is_enough_after_a_while(
    processes: RegionProcesses, sidecars: Sidecars, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activation, "OTHERS_SECONDS", 0.02)
    sidecars.workers[102] = 0
    assert asyncio.run(processes.activate(3)).role == "active"


@pytest.mark.parametrize("healthy", [True, False])
def test_an_activation_without_any_worker_is_an_error(
    processes: RegionProcesses, sidecars: Sidecars, monkeypatch: pytest.MonkeyPatch, healthy: bool
) -> None:
    monkeypatch.setattr(activation, "READY_SECONDS", 0.05)
    sidecars.workers, sidecars.healthy = {101: 0, 102: 0}, healthy
    with pytest.raises(ActivationError, match="no sidecar had a worker"):
        asyncio.run(processes.activate(3))


@dataclass
class Index:
    """The run index as far as the agent itself needs it."""

    writable: bool = True
    hangs: asyncio.Event | None = None
    down: int = 0
    closed: bool = False

    def ensure_schema(self) -> None:
        if self.down:
            self.down -= 1
            raise IndexUnavailableError("not yet")

    def is_writable(self) -> bool:
        return self.writable

    def open_runs(self) -> list[Any]:
        return []

    def close(self) -> None:
        self.closed = True


@dataclass
class Patroni:
    """Says of the own database what it is told to."""

    member: Member | None = PRIMARY

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.member is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json=self.member.model_dump())


@pytest.fixture
def patroni() -> Patroni:
    return Patroni()


@pytest.fixture
def index() -> Index:
    return Index()


@pytest.fixture
def follower(
    config: AgentConfig,
    events: EventLog,
    processes: RegionProcesses,
    supervisor: Any,
    role_file: RoleFile,
    patroni: Patroni,
    index: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> RegionAgent:
    monkeypatch.setattr(agent, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(agent, "UNCLEAR_SECONDS", 0.05)
    client = httpx.AsyncClient(transport=httpx.MockTransport(patroni))
    return RegionAgent(
        config=config,
        local=client,
        processes=processes,
        peer=PeerWatch(config, client, LeaseStore(client, [], "holdfast"), events),
        index=index,
        make_sweeper=lambda: Sweeper(index, [], events, 60.0),
        pairs=Pairs(config.sidecars, supervisor, events),
        role_file=role_file,
        events=events,
    )


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "did not happen"
        await asyncio.sleep(0.005)


def follows(follower: RegionAgent, *steps: Callable[[], object]) -> None:
    """Run the agent; between two conditions the callables that return None change the world."""

    async def run() -> None:
        following = asyncio.create_task(follower.run())
        try:
            for step in steps:
                if step() is not None:
                    await until(step)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await follower.close()

    asyncio.run(run())


def test_the_region_follows_its_database_to_and_fro(
    follower: RegionAgent, patroni: Patroni, role_file: RoleFile, told: Told, index: Index
) -> None:
    def role() -> tuple[str, int]:
        read = role_file.read()
        return (read.role, read.epoch) if read else ("none", 0)

    def becomes(member: Member | None) -> Callable[[], None]:
        return lambda: setattr(patroni, "member", member)

    follows(
        follower,
        lambda: role() == ("active", 4),
        becomes(Member(role="primary", state="stopping")),
        lambda: role() == ("standby", 4),
        becomes(REPLICA.model_copy(update={"timeline": 5})),
        lambda: role() == ("standby", 5),
        becomes(PRIMARY.model_copy(update={"timeline": 6})),
        lambda: role() == ("active", 6),
    )
    changes = [(one["from"], one["to"], one["epoch"]) for one in told() if one["event"] == "role-changed"]
    assert changes == [(None, "active", 4), ("active", "standby", 4), ("standby", "active", 6)]
    assert [one["epoch"] for one in told() if one["event"] == "promoted"] == [4, 6]
    assert index.closed


@pytest.mark.parametrize(("writable", "stays"), [(True, True), (False, False)])
def test_where_patroni_says_nothing_the_database_itself_is_asked(
    follower: RegionAgent, patroni: Patroni, role_file: RoleFile, index: Index, writable: bool, stays: bool
) -> None:
    asked: list[bool] = []

    def is_writable() -> bool:
        asked.append(True)
        return writable

    index.is_writable = is_writable  # type: ignore[method-assign]

    def role() -> str:
        read = role_file.read()
        return read.role if read else "none"

    follows(
        follower,
        lambda: role() == "active",
        lambda: setattr(patroni, "member", None),
        lambda: len(asked) >= (3 if stays else 1),
        lambda: role() == ("active" if stays else "standby"),
    )


def test_a_database_that_does_not_answer_in_time_is_no_primary(
    follower: RegionAgent, patroni: Patroni, role_file: RoleFile, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "ASKED_SECONDS", 0.02)
    released = threading.Event()
    index.is_writable = lambda: released.wait(5)  # type: ignore[method-assign]

    def is_standby() -> bool:
        read = role_file.read()
        if read is not None and read.role == "standby":
            released.set()
            return True
        return False

    follows(
        follower,
        lambda: role_file.read() is not None,
        lambda: setattr(patroni, "member", None),
        is_standby,
    )


def test_an_activation_that_fails_is_tried_again(
    follower: RegionAgent, supervisor: FakeSupervisor, role_file: RoleFile, index: Index, told: Told
) -> None:
    index.down, supervisor.broken = 1, True

    def failed() -> bool:
        return any(one["event"] == "transition-failed" for one in told())

    def is_active() -> bool:
        read = role_file.read()
        return read is not None and read.role == "active" and any(one["event"] == "sweep-finished" for one in told())

    follows(follower, failed, lambda: setattr(supervisor, "broken", False), is_active)


def test_a_process_is_known_to_live_by_its_id() -> None:
    assert pairs._alive(os.getpid())
    assert not pairs._alive(2**31 - 1)


def test_events_are_whole_lines(events: EventLog, config: AgentConfig) -> None:
    events.record("one", reason="because")
    line = json.loads(config.events_file.read_text())
    assert (line["event"], line["reason"]) == ("one", "because")


def test_an_agent_whose_watch_has_failed_ends(follower: RegionAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(follower.pairs, "watch", fails)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(asyncio.wait_for(follower.run(), 5))
