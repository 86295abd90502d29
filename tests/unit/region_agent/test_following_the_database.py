"""The agent does at once what the database says, and asks it itself where nothing is said for too long."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from region_agent import agent
from region_agent.agent import AGAIN_SECONDS, RegionAgent
from region_agent.config import AgentConfig
from region_agent.etcd import QuorumUnreachableError
from region_agent.events import EventLog
from region_agent.patroni import Member
from region_agent.reminders import Reminders
from region_agent.role import LEASE_MARGIN_SECONDS, UNCLEAR_SECONDS, Role, RoleFile
from region_agent.supervisor import SupervisorError
from region_agent.sweep import Swept
from run_index import IndexUnavailableError

from tests.unit.region_agent.stand_ins import Clock, OverError, client_of

pytestmark = pytest.mark.unit

POLL = 0.25
PRIMARY = Member(role="primary", state="running", timeline=4)
REPLICA = Member(role="replica", state="running", timeline=4, replication_state="streaming")
Told = Callable[[], list[dict[str, Any]]]


def nothing() -> None:
    """Happens."""


class Region:
    """What an agent has in its hands: processes, sweeper, pairs, the other region and the run index."""

    def __init__(self, config: AgentConfig, events: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
        self.member: Member | None = PRIMARY
        self.did: list[str] = []
        self.broken: set[str] = set()
        self.recorded: dict[int, datetime] = {}
        self.recordings = threading.Semaphore(0)
        self.writable, self.lease_seconds, self.quorum = False, 20, True
        self.on_deactivated: Callable[[], object] = nothing
        self.role_file = RoleFile(config.role_file, config.region)
        self.sweepers: list[Sweeper] = []
        self.lives: list[str] = []
        self.clock = Clock()
        self._patch = monkeypatch
        self.agent = RegionAgent(
            config=config.model_copy(update={"poll_seconds": POLL}),
            local=client_of(self._patroni),
            processes=self,  # type: ignore[arg-type]
            peer=self,  # type: ignore[arg-type]
            lease=self,  # type: ignore[arg-type]
            rejoin=self,  # type: ignore[arg-type]
            index=self,  # type: ignore[arg-type]
            epochs=self,  # type: ignore[arg-type]
            make_sweeper=self._sweeper,  # type: ignore[arg-type]
            pairs=self,  # type: ignore[arg-type]
            reminders=Reminders(config.scheduler.data_dir, config.role_file.with_name("swept.epoch")),
            role_file=self.role_file,
            events=events,
        )

    def follow(self, *moments: Callable[[], object]) -> None:
        """Run the agent until each moment has been; one happens in each of its pauses."""
        self.clock = Clock(*moments)
        self._patch.setattr(asyncio, "sleep", self.clock.sleep)
        self._patch.setattr(agent, "time", self.clock)

        async def run() -> None:
            try:
                await self.agent.run()
            finally:
                await self.agent.close()

        with pytest.raises(OverError):
            asyncio.run(run())

    def becomes(self, member: Member | None) -> Callable[[], object]:
        return lambda: setattr(self, "member", member)

    def done(self, *kinds: str) -> list[str]:
        return [one for one in self.did if one.split()[0] in kinds]

    def recording(self, *after: Callable[[], object]) -> list[Callable[[], object]]:
        """Moments in which a recording is begun, by a thread of its own, and ended."""
        return [*[nothing] * 5, lambda: self.recordings.acquire(timeout=10), *after, *[nothing] * 5]

    def forget(self) -> None:
        """The scheduler has nothing left of what it was told."""
        shutil.rmtree(self.agent.config.scheduler.data_dir, ignore_errors=True)

    def role(self) -> str | None:
        role = self.role_file.read()
        return role and f"{role.role} {role.epoch}"

    def _patroni(self, request: httpx.Request) -> httpx.Response:
        if self.member is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(200 if self.member.leads else 503, json=self.member.model_dump())

    def _sweeper(self) -> Sweeper:
        self.sweepers.append(Sweeper(self))
        return self.sweepers[-1]

    async def activate(self, epoch: int) -> Role:
        self.did.append(f"activate {epoch}")
        before = self.role_file.write("activating", epoch) if self.role() is None else self.role_file.read()
        if before and before.epoch != epoch:
            self.forget()
        self.role_file.write("activating", epoch)
        if "activate" in self.broken:
            raise SupervisorError("the supervisor refused")
        return self.role_file.write("active", epoch)

    async def deactivate(self, epoch: int) -> Role:
        self.did.append(f"deactivate {epoch}")
        self.forget()
        self.on_deactivated()
        role = self.role_file.write("standby", epoch)
        if "deactivate" in self.broken:
            raise SupervisorError("the supervisor refused")
        return role

    async def look(self, own: Member | None) -> float:
        self.did.append(f"look {own.role if own else None}")
        return 0.4

    def rest(self) -> None:
        self.did.append("rest")

    async def watch(self) -> None:
        self.did.append("watch pairs")
        try:
            await asyncio.Event().wait()
        finally:
            self.did.append("leave pairs")

    def ensure_schema(self) -> None:
        if "schema" in self.broken:
            raise IndexUnavailableError("not yet")

    def record(self, epoch: int, region: str, activated_at: datetime) -> None:
        self.did.append(f"record {epoch} {region}")
        self.recordings.release()
        if "record" in self.broken:
            raise IndexUnavailableError("not yet")
        self.recorded[epoch] = activated_at

    def record_sweep(self, epoch: int, runs: int, seconds: float) -> None:
        self.did.append(f"record sweep {epoch} {runs} {seconds}")
        self.recordings.release()

    async def seconds_left(self, holder: str) -> int:
        if not self.quorum:
            raise QuorumUnreachableError("nobody answers")
        assert holder == self.agent.config.region
        return self.lease_seconds

    def is_writable(self) -> bool:
        self.did.append(f"ask {self.clock.now}")
        return self.writable

    def close(self) -> None:
        self.did.append("close index")
        raise OSError("closed already")


class Sweeper:
    """Notes what it is told, and fails as often as the region is broken."""

    def __init__(self, region: Region) -> None:
        self.region, self.closed = region, False

    async def sweep(self, epoch: int, life: str) -> Swept:
        self.region.did.append(f"sweep {epoch}")
        self.region.lives.append(life)
        if "sweep" in self.region.broken:
            raise IndexUnavailableError("not yet")
        return Swept(7, 0.25)

    async def watch(self) -> None:
        self.region.did.append("watch runs")
        await asyncio.Event().wait()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def region(config: AgentConfig, events: EventLog, monkeypatch: pytest.MonkeyPatch) -> Region:
    return Region(config, events, monkeypatch)


def pauses(seconds: float) -> list[Callable[[], object]]:
    return [nothing] * int(seconds / POLL)


def test_a_primary_is_active_and_its_runs_are_swept_once(region: Region) -> None:
    region.follow(*[nothing] * 5)
    assert region.did[:2] == ["activate 4", "rest"]
    assert region.done("activate", "sweep") == ["activate 4", "sweep 4"]
    assert sorted(region.done("watch")) == ["watch pairs", "watch runs"]


@pytest.mark.parametrize("state", ["stopping", "stopped"])
def test_a_primary_that_is_being_stopped_is_standby_at_once(region: Region, state: str) -> None:
    region.follow(nothing, region.becomes(PRIMARY.model_copy(update={"state": state})), nothing)
    assert region.done("activate", "deactivate", "ask") == ["activate 4", "deactivate 4"]
    assert region.role() == "standby 4"
    assert region.clock.now == 1000 + 4 * POLL
    assert region.done("leave") == ["leave pairs"]
    assert [sweeper.closed for sweeper in region.sweepers] == [True]


def test_a_primary_that_says_nothing_is_asked_itself_after_two_seconds(region: Region) -> None:
    silent_from = 1000 + 2 * POLL
    region.follow(nothing, region.becomes(None), *pauses(UNCLEAR_SECONDS + 1))
    assert region.done("ask", "deactivate") == [f"ask {silent_from + UNCLEAR_SECONDS}", "deactivate 4"]
    assert region.role() == "standby 4"


def test_a_primary_that_can_still_be_written_stays_active_without_another_activation(region: Region) -> None:
    region.writable = True
    region.follow(nothing, region.becomes(None), *pauses(UNCLEAR_SECONDS + 1))
    assert len(region.done("ask")) > 1
    assert region.done("activate", "deactivate", "sweep") == ["activate 4", "sweep 4"]


@pytest.mark.parametrize("left", [0, LEASE_MARGIN_SECONDS], ids=["is-over", "is-about-to-end"])
def test_a_writable_primary_whose_lease_nobody_renews_is_standby_before_another_may_have_it(
    region: Region, left: int
) -> None:
    region.writable = True
    ends = lambda: setattr(region, "lease_seconds", left)  # noqa: E731
    region.follow(nothing, region.becomes(None), *pauses(UNCLEAR_SECONDS + 1), ends, nothing, nothing)
    assert region.done("activate", "deactivate") == ["activate 4", "deactivate 4"]
    assert region.role() == "standby 4"


def test_a_writable_primary_of_which_nobody_can_say_whether_it_has_the_lease_is_standby(region: Region) -> None:
    region.writable, region.quorum = True, False
    region.follow(nothing, region.becomes(None), *pauses(UNCLEAR_SECONDS + 1))
    assert region.done("deactivate") == ["deactivate 4"]


def test_one_clear_word_ends_the_time_of_being_unclear(region: Region) -> None:
    region.follow(
        nothing,
        region.becomes(None),
        *pauses(UNCLEAR_SECONDS - POLL),
        region.becomes(PRIMARY),
        region.becomes(None),
        *pauses(UNCLEAR_SECONDS - POLL),
    )
    assert region.done("ask", "deactivate") == []


def test_a_database_that_does_not_answer_in_time_is_no_primary(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "ASKED_SECONDS", 0.01)
    answered = threading.Event()
    region.is_writable = lambda: answered.wait(5)  # type: ignore[method-assign]
    region.on_deactivated = answered.set
    region.follow(nothing, region.becomes(None), *pauses(UNCLEAR_SECONDS + POLL))
    assert region.done("deactivate") == ["deactivate 4"]


def test_a_standby_whose_database_says_nothing_stays_standby_and_asks_nothing(region: Region) -> None:
    region.member = REPLICA
    region.follow(nothing, region.becomes(None), *pauses(UNCLEAR_SECONDS + 1))
    assert region.done("activate", "deactivate", "ask") == ["deactivate 4"]
    assert region.role() == "standby 4"


def test_a_region_whose_activation_failed_is_standby_when_its_database_falls_silent(region: Region) -> None:
    region.broken = {"activate"}
    region.follow(nothing, nothing, region.becomes(None), *pauses(UNCLEAR_SECONDS + 1))
    assert region.role() == "standby 4"


def test_an_agent_that_finds_an_activation_broken_off_and_a_silent_database_makes_the_region_standby(
    region: Region,
) -> None:
    region.role_file.write("activating", 4)
    region.member = None
    region.follow(*pauses(UNCLEAR_SECONDS + 1))
    assert region.role() == "standby 4"


def test_a_deactivation_that_failed_is_repeated_while_the_database_is_silent(region: Region) -> None:
    region.broken = {"deactivate"}

    def heal() -> None:
        region.broken.clear()

    region.follow(
        nothing,
        region.becomes(REPLICA),
        nothing,
        region.becomes(None),
        heal,
        *pauses(UNCLEAR_SECONDS + 1),
    )
    assert region.done("deactivate")[-1] == "deactivate 4"
    assert region.agent.role is not None
    assert region.agent.role.role == "standby"


def test_what_failed_is_told_and_tried_again_after_a_pause(region: Region, told: Told) -> None:
    region.broken = {"activate"}
    region.follow(nothing, region.broken.clear, nothing, nothing)
    failed = [(one["wanted"], one["error"]) for one in told() if one["event"] == "transition-failed"]
    assert set(failed) == {("active", "the supervisor refused")}
    assert region.clock.slept[0] == AGAIN_SECONDS
    assert region.role() == "active 4"
    assert region.done("sweep") == ["sweep 4"]


def test_no_run_is_swept_before_the_run_index_has_its_table(region: Region) -> None:
    region.broken = {"schema"}
    region.follow(nothing, nothing, region.broken.clear, nothing, nothing)
    *activations, swept = region.done("activate", "sweep")
    assert len(activations) > 1
    assert (set(activations), swept) == ({"activate 4"}, "sweep 4")


def test_a_new_epoch_whose_activation_failed_half_way_is_swept_too(region: Region) -> None:
    def promote() -> None:
        region.member = PRIMARY.model_copy(update={"timeline": 5})
        region.broken.add("schema")

    region.follow(nothing, promote, nothing, nothing, region.broken.clear, nothing, nothing)
    assert region.done("sweep") == ["sweep 4", "sweep 5"]


def test_an_activation_is_recorded_with_its_sweep_and_as_of_before_any_process_was_started(region: Region) -> None:
    before = datetime.now(UTC)
    region.follow(*region.recording(), *region.recording())
    assert region.done("sweep", "record") == ["sweep 4", "record 4 b", "record sweep 4 7 0.25"]
    assert before <= region.recorded[4] <= datetime.now(UTC)


def test_an_activation_that_could_not_be_recorded_holds_up_nothing_and_is_recorded_later(region: Region) -> None:
    region.broken = {"record"}
    region.follow(*region.recording(region.broken.clear), *region.recording(), *region.recording())
    assert region.did.index("watch runs") < region.did.index("record sweep 4 7 0.25")
    assert region.done("record")[:2] == ["record 4 b"] * 2
    assert region.done("record")[-1] == "record sweep 4 7 0.25"


def test_an_agent_that_starts_again_in_a_swept_epoch_records_no_sweep(region: Region) -> None:
    reminders = region.agent.reminders
    reminders.note_swept(reminders.begin(4))
    region.role_file.write("active", 4)
    region.follow(*region.recording())
    assert region.done("record") == ["record 4 b"]


def test_nothing_is_watched_any_more_when_the_processes_are_stopped(region: Region) -> None:
    closed: list[bool] = []
    region.on_deactivated = lambda: closed.extend(sweeper.closed for sweeper in region.sweepers)
    region.follow(nothing, region.becomes(REPLICA), nothing)
    assert closed == [True]


def test_a_sweep_that_could_not_read_the_index_is_repeated_until_it_can(region: Region, told: Told) -> None:
    region.broken = {"sweep"}
    region.follow(nothing, nothing, nothing, region.broken.clear, *[nothing] * 5)
    assert len(region.done("sweep")) > 1
    assert region.did.count("watch runs") == 1
    assert {one["error"] for one in told() if one["event"] == "sweep-failed"} == {"not yet"}


def test_a_new_epoch_is_a_new_activation_and_a_new_sweep(region: Region, told: Told) -> None:
    region.follow(nothing, region.becomes(PRIMARY.model_copy(update={"timeline": 5})), nothing, nothing)
    assert region.done("activate", "sweep") == ["activate 4", "sweep 4", "activate 5", "sweep 5"]
    assert [sweeper.closed for sweeper in region.sweepers] == [True, True]
    assert [one["epoch"] for one in told() if one["event"] == "promoted"] == [4, 5]


def test_an_agent_that_starts_again_in_the_same_epoch_sees_to_the_processes_and_reports_no_promotion(
    region: Region, told: Told
) -> None:
    region.role_file.write("active", 4)
    region.agent.reminders.begin(4)
    region.follow(nothing, nothing)
    assert region.done("activate", "sweep") == ["activate 4", "sweep 4"]
    assert (told()[0]["event"], told()[0]["role"]) == ("agent-started", "active")
    assert "promoted" not in {one["event"] for one in told()}


def test_an_agent_that_starts_again_as_standby_stops_what_may_still_run(region: Region) -> None:
    region.role_file.write("active", 3)
    region.member = REPLICA
    region.follow(nothing, nothing)
    assert region.done("activate", "deactivate") == ["deactivate 4"]


def test_a_standby_takes_over_a_newer_epoch_without_doing_anything(region: Region) -> None:
    region.member = REPLICA
    region.follow(nothing, region.becomes(REPLICA.model_copy(update={"timeline": 9})), nothing)
    assert region.role() == "standby 9"
    assert region.done("deactivate") == ["deactivate 4"]


def test_a_standby_that_was_promoted_past_patroni_stays_standby(region: Region) -> None:
    region.member = REPLICA
    past_patroni = PRIMARY.model_copy(update={"timeline": 5, "leads": False})
    region.follow(nothing, region.becomes(past_patroni), *pauses(UNCLEAR_SECONDS + 1), region.becomes(REPLICA), nothing)
    assert region.done("activate", "deactivate", "ask") == ["deactivate 4"]
    assert region.role() == "standby 4"


def test_only_a_standby_looks_at_the_other_region_and_as_often_as_it_is_told(region: Region) -> None:
    region.follow(*[nothing] * 4)
    assert region.done("look") == []
    region.member, region.did = REPLICA, []
    region.follow(*[nothing] * 8)
    assert region.done("look") == ["look replica"] * 5


def test_a_database_is_noted_when_its_role_or_epoch_changes(region: Region, told: Told) -> None:
    region.follow(nothing, nothing, region.becomes(REPLICA), nothing)
    seen = [(one["role"], one["timeline"]) for one in told() if one["event"] == "database-role"]
    assert seen == [("primary", 4), ("replica", 4)]


def test_an_agent_that_ends_leaves_the_region_as_it_is(region: Region) -> None:
    region.follow(nothing)
    assert "close index" in region.did
    assert region.role() == "active 4"


def test_an_agent_whose_watch_has_failed_ends(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(region, "watch", fails)
    with pytest.raises(ZeroDivisionError):
        region.follow(nothing, nothing, nothing)


def test_an_agent_that_starts_again_wakes_nobody_who_was_woken_in_the_same_epoch(region: Region) -> None:
    region.follow(nothing, nothing)
    region.follow(nothing, nothing)
    assert region.done("activate", "sweep") == ["activate 4", "sweep 4", "activate 4"]
    region.member = PRIMARY.model_copy(update={"timeline": 5})
    region.follow(nothing, nothing)
    assert region.done("sweep") == ["sweep 4", "sweep 5"]


@pytest.mark.parametrize("noticed", ["by the agent", "by the next agent"])
def test_lost_reminders_end_what_is_in_hand_and_wake_every_run_anew(region: Region, told: Told, noticed: str) -> None:
    if noticed == "by the agent":
        region.follow(nothing, nothing, region.forget, nothing, nothing)
    else:
        region.follow(nothing, nothing)
        region.forget()
        region.follow(nothing, nothing)
    assert region.done("activate", "deactivate", "sweep") == [
        "activate 4",
        "sweep 4",
        "deactivate 4",
        "activate 4",
        "sweep 4",
    ]
    # A run heeds one signal in each life of the store; what it heeded before it must heed again.
    assert len(set(region.lives)) == 2
    assert [one["epoch"] for one in told() if one["event"] == "reminders-lost"] == [4]
    assert [one["epoch"] for one in told() if one["event"] == "promoted"] == [4]
