"""A fault strikes only what it should, and says of itself whether it was in force."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from chaos.faults import NotInjectedError, NotLiftedError, local
from chaos.faults.local import LocalTarget, processes
from chaos.faults.target import Part, Place
from infra.doors import Unanswered
from infra.local.errors import PartError
from infra.local.supervisor import ProcessStatus
from infra.manifest import Manifest
from infra.switchover import Moved, NotFinished, NotPossible, Phase
from tests.support.deployments import manifest
from tests.support.histories import attempt

pytestmark = pytest.mark.unit

STATES = {signal.SIGKILL: psutil.STATUS_DEAD, signal.SIGSTOP: psutil.STATUS_STOPPED, signal.SIGCONT: "running"}


@dataclass(eq=False)
class ToldProcess:
    """Does what a signal says, except where it was told to go on."""

    title: str
    pid: int
    heeds: bool = True
    state: str = "running"
    got: list[tuple[int, signal.Signals]] = field(default_factory=list)
    on_signal: Callable[[], object] = lambda: None

    def name(self) -> str:
        if self.state == psutil.STATUS_DEAD:
            raise psutil.NoSuchProcess(self.pid)
        return self.title

    def status(self) -> str:
        if self.state == psutil.STATUS_DEAD:
            raise psutil.NoSuchProcess(self.pid)
        return self.state

    def is_running(self) -> bool:
        return self.state != psutil.STATUS_DEAD

    def send_signal(self, number: signal.Signals) -> None:
        if self.state == psutil.STATUS_DEAD:
            raise psutil.NoSuchProcess(self.pid)
        self.got.append((self.pid, number))
        self.on_signal()
        if self.heeds:
            self.state = STATES[number]

    def wait(self, timeout: float | None = None) -> int:
        if self.is_running():
            raise psutil.TimeoutExpired(timeout or 0.0, self.pid)
        return -9


@dataclass
class Region:
    """The processes of region a, and their supervisor."""

    place: Manifest
    processes: list[ToldProcess] = field(default_factory=list)
    got: list[tuple[int, signal.Signals]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    supervised: dict[str, int] | None = field(default_factory=dict)
    refuses: bool = False
    looks: list[list[ToldProcess]] = field(default_factory=list)
    """What is there at each look, before the last."""

    def put(self, title: str, pid: int, supervised_as: str = "", **changes: Any) -> ToldProcess:
        made = ToldProcess(title, pid, got=self.got, **changes)
        self.processes.append(made)
        if supervised_as and self.supervised is not None:
            self.supervised[supervised_as] = pid
        return made

    def members(self, *_: object) -> list[ToldProcess]:
        looked = self.looks.pop(0) if self.looks else self.processes
        return [one for one in looked if one.is_running()]

    def process(self, pid: int) -> ToldProcess:
        return next(one for one in self.processes if one.pid == pid)

    def status(self, _: Path) -> dict[str, ProcessStatus] | None:
        if self.supervised is None:
            return None
        return {
            name: ProcessStatus(name, pid, self.process(pid).is_running(), 0, 0, self.states.get(name, "Running"))
            for name, pid in self.supervised.items()
        }

    def ask(self, _: Path, method: str, request: str, timeout: float = 5.0) -> None:
        self.asked.append(f"{method} {request}")
        name = request.rpartition("/")[2]
        if self.refuses:
            raise PartError("refused")
        assert self.supervised is not None
        process = self.process(self.supervised[name])
        process.state = "running" if "start" in request else psutil.STATUS_DEAD


@pytest.fixture
def region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Region:
    made = Region(manifest(tmp_path))
    for name in ("GONE_SECONDS", "STOP_SECONDS", "START_SECONDS"):
        monkeypatch.setattr(processes, name, 0.1)
    monkeypatch.setattr(processes, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(processes, "members", made.members)
    monkeypatch.setattr(processes, "status", made.status)
    monkeypatch.setattr(processes, "ask", made.ask)
    monkeypatch.setattr(processes.psutil, "Process", made.process)
    return made


@pytest.fixture
def target(region: Region) -> LocalTarget:
    return LocalTarget(region.place)


def test_a_whole_region_is_killed_supervisor_first(region: Region, target: LocalTarget) -> None:
    for number, title in enumerate(("postgres", "process-compose", "daprd"), 1):
        region.put(title, number)
    struck = target.kill("a", "everything")
    assert [pid for pid, _ in region.got] == [2, 1, 3]
    assert (struck.killed, struck.proven) == ([2, 1, 3], True)
    assert struck.evidence == {"killed": 3, "still-running": [], "still-listening": []}


@pytest.mark.parametrize("strike", ["kill", "freeze"])
def test_a_strike_comes_when_its_moment_does_to_those_who_were_looked_for_before(
    region: Region, target: LocalTarget, strike: str
) -> None:
    region.put("process-compose", 1)
    before: list[int] = []

    def moment() -> set[str]:
        before.append(len(region.got))
        region.looks = [[], []]  # Who looks now is too late.
        return set()

    assert getattr(target, strike)("a", "everything", moment=moment).proven
    assert (before, [pid for pid, _ in region.got]) == ([0], [1])


def test_what_was_started_meanwhile_is_killed_too(region: Region, target: LocalTarget) -> None:
    region.put("process-compose", 1)
    late = region.put("worker", 2)
    region.looks = [[region.processes[0]], [late]]
    struck = target.kill("a", "everything")
    assert (struck.killed, struck.proven) == ([1, 2], True)


def test_what_ended_by_itself_is_no_hindrance(region: Region, target: LocalTarget) -> None:
    gone = region.put("worker", 2)
    first = region.put("process-compose", 1, on_signal=lambda: setattr(gone, "state", psutil.STATUS_DEAD))
    assert target.kill("a", "everything").proven
    assert region.got == [(first.pid, signal.SIGKILL)]


def test_a_region_of_which_something_lives_on_is_not_proven_lost(region: Region, target: LocalTarget) -> None:
    region.put("process-compose", 1)
    region.put("postgres", 2, heeds=False)
    struck = target.kill("a", "everything")
    assert (struck.evidence["still-running"], struck.proven) == ([2], False)


def test_a_region_of_which_nothing_ran_is_not_proven_lost(target: LocalTarget) -> None:
    assert not target.kill("a", "everything").proven


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_region_that_still_listens_is_not_proven_lost(region: Region, listening: int) -> None:
    region.put("process-compose", 1)
    site = region.place.regions["a"].model_copy(update={"postgres_port": listening})
    place = region.place.model_copy(update={"regions": {**region.place.regions, "a": site}})
    struck = LocalTarget(place).kill("a", "everything")
    assert (struck.evidence["still-listening"], struck.proven) == ([listening], False)


def test_a_witness_that_still_listens_is_not_proven_lost(region: Region, listening: int) -> None:
    region.put("process-compose", 1)
    witness = region.place.witness.model_copy(update={"observer": f"https://127.0.0.1:{listening}"})
    struck = LocalTarget(region.place.model_copy(update={"witness": witness})).kill("w", "everything")
    assert (struck.evidence["still-listening"], struck.proven) == ([listening], False)


PARTS: list[tuple[Part, list[int]]] = [
    ("worker", [11, 12]),
    ("sidecar", [21]),
    ("patroni", [31]),
    ("database", [32, 33]),
    ("lease-store", [41]),
    ("scheduler", [51]),
]


@pytest.mark.parametrize(("part", "pids"), PARTS)
def test_a_part_is_known_by_what_it_is(region: Region, target: LocalTarget, part: Part, pids: list[int]) -> None:
    for title, pid, name in (
        ("python", 11, "worker-1"),
        ("python", 12, "worker-2"),
        ("daprd", 21, "daprd-1"),
        ("python", 31, "postgres"),
        ("postgres", 32, ""),
        ("postgres: checkpointer", 33, ""),
        ("etcd", 41, "etcd"),
        ("scheduler", 51, "scheduler"),
    ):
        region.put(title, pid, name)
    struck = target.kill("a", part)
    assert (struck.killed, struck.proven) == (pids, True)
    assert {number for _, number in region.got} == {signal.SIGKILL}


def test_one_process_of_a_part_is_killed_alone(region: Region, target: LocalTarget) -> None:
    region.put("python", 11, "worker-1")
    region.put("python", 12, "worker-2")
    assert target.kill("a", "worker", {"worker-2"}).killed == [12]
    assert target.running("a", "worker") == {"worker-1": 11}


def test_a_process_that_lives_on_is_not_proven_killed(region: Region, target: LocalTarget) -> None:
    region.put("python", 11, "worker-1", heeds=False)
    struck = target.kill("a", "worker")
    assert (struck.evidence["gone"], struck.proven) == (False, False)


def test_a_process_that_ended_before_it_could_be_looked_at_is_passed_over(
    region: Region, target: LocalTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    region.put("python", 11, "worker-1")

    def gone(pid: int) -> ToldProcess:
        raise psutil.NoSuchProcess(pid)

    monkeypatch.setattr(processes.psutil, "Process", gone)
    assert not target.kill("a", "worker").proven


def test_frozen_processes_are_in_state_t_and_go_on(region: Region, target: LocalTarget) -> None:
    region.put("worker", 1)
    region.put("process-compose", 2)
    struck = target.freeze("a", "everything")
    assert (struck.frozen, struck.killed, struck.proven) == ([2, 1], (), True)
    assert {one.state for one in region.processes} == {psutil.STATUS_STOPPED}
    target.resume("a", "everything")
    assert {one.state for one in region.processes} == {"running"}
    region.got.clear()
    target.resume("a", "everything")
    assert region.got == []


def test_what_was_started_while_a_region_was_frozen_is_frozen_too(region: Region, target: LocalTarget) -> None:
    first, late = region.put("process-compose", 1), region.put("worker", 2)
    region.looks = [[first], [first, late]]
    assert target.freeze("a", "everything").frozen == [1, 2]


def test_a_process_that_does_not_freeze_is_not_proven(region: Region, target: LocalTarget) -> None:
    region.put("python", 11, "worker-1", heeds=False)
    struck = target.freeze("a", "worker")
    assert (struck.evidence, struck.proven) == ({"frozen": 1, "state-T": False}, False)


def test_processes_that_stay_frozen_are_told(region: Region, target: LocalTarget) -> None:
    region.put("postgres", 7, heeds=False, state=psutil.STATUS_STOPPED)
    with pytest.raises(NotLiftedError, match=r"processes \[7\] of region-a are frozen still"):
        target.resume("a", "database")


def test_a_part_is_stopped_by_its_supervisor_and_stays_down(region: Region, target: LocalTarget) -> None:
    region.put("python", 11, "worker-1")
    region.put("python", 12, "worker-2")
    struck = target.stop("a", "worker", {"worker-1"})
    assert region.asked == ["PATCH /process/stop/worker-1"]
    assert (struck.killed, struck.proven) == ([11], True)
    assert struck.evidence == {"stopped": 1, "gone": True, "stays-down": True}
    target.start("a", "worker")
    assert region.asked[1:] == ["POST /process/start/worker-1"]
    assert target.running("a", "worker") == {"worker-1": 11, "worker-2": 12}


def test_a_part_that_is_about_to_come_back_is_stopped_when_it_has(region: Region, target: LocalTarget) -> None:
    region.put("python", 31, "postgres", state=psutil.STATUS_DEAD)
    region.states = {"postgres": "Restarting"}
    assert not target.stop("a", "patroni").proven


def test_a_part_that_does_not_stop_is_not_proven(region: Region, target: LocalTarget) -> None:
    region.put("python", 31, "postgres")
    region.refuses = True
    struck = target.stop("a", "patroni")
    assert (struck.evidence["gone"], struck.evidence["stays-down"], struck.proven) == (False, False, False)


def test_a_region_is_drained_with_its_supervisor(
    region: Region, target: LocalTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    region.put("process-compose", 1)
    (region.place.directory / "region-a").mkdir()

    def stop(site: object) -> None:
        region.processes[0].state = psutil.STATUS_DEAD
        region.supervised = None

    monkeypatch.setattr(processes, "stop_site", stop)
    struck = target.stop("a", "everything")
    assert (struck.killed, struck.proven) == ([1], True)


@pytest.mark.parametrize(("place", "site"), [("a", "region-a"), ("w", "witness")])
def test_what_was_lost_is_started_by_its_supervisor(
    region: Region, target: LocalTarget, monkeypatch: pytest.MonkeyPatch, place: Place, site: str
) -> None:
    region.supervised = None
    started: list[str] = []

    def start(one: Any) -> None:
        started.append(one.name)
        region.supervised = {}
        names = ["etcd", "observer"] if site == "witness" else ["etcd", "postgres", "region-agent", "api"]
        for number, name in enumerate(names):
            region.put(name, number, name)

    monkeypatch.setattr(processes, "start_site", start)
    (region.place.directory / site).mkdir()
    target.start(place, "everything")
    target.start(place, "everything")
    assert started == [site]


def test_what_does_not_start_is_told(region: Region, target: LocalTarget) -> None:
    region.put("api", 1, "api", state=psutil.STATUS_DEAD)
    region.refuses = True
    with pytest.raises(NotLiftedError, match=r"api of a did not start in 0\.1 s"):
        target.start("a", "api")


@pytest.mark.parametrize(
    ("role", "starts"), [("active", True), ("activating", True), ("standby", False), (None, False)]
)
def test_a_scheduler_is_started_only_where_the_region_is_active(
    region: Region, target: LocalTarget, role: str | None, starts: bool
) -> None:
    region.put("scheduler", 1, "scheduler", state=psutil.STATUS_DEAD)
    path = region.place.regions["a"].role_file
    if role:
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"role": role}))
    target.start("a", "scheduler")
    assert bool(target.running("a", "scheduler")) is starts


def test_a_witness_has_no_workers(region: Region, target: LocalTarget) -> None:
    assert target.running("w", "worker") == {}


def test_what_a_worker_has_in_hand_is_what_it_began_and_did_not_end(region: Region, target: LocalTarget) -> None:
    path = region.place.regions["a"].attempts_dir / "attempts-worker-1.jsonl"
    path.parent.mkdir(parents=True)
    records = [
        attempt("run-1", 1, "started", 1.0, pid=31),
        attempt("run-1", 1, "ended", 2.0, pid=31),
        attempt("run-1", 2, "started", 3.0, pid=31),
        attempt("run-2", 1, "started", 3.0, pid=32, joined=True),
        attempt("run-3", 1, "started", 3.0, pid=33),
    ]
    path.write_text("".join(json.dumps(one.model_dump()) + "\n" for one in records))
    assert target.in_hand() == {31: {"run-1:2"}, 33: {"run-3:1"}}


def reminders(region: Region) -> Path:
    data = region.place.regions["a"].attempts_dir / "scheduler"
    data.mkdir(parents=True)
    (data / "db").write_text("wake run 7")
    region.place.regions["a"].role_file.write_text('{"role": "active"}')
    return data


def test_reminders_are_wiped_while_the_scheduler_is_down(region: Region, target: LocalTarget) -> None:
    region.put("scheduler", 1, "scheduler")
    data = reminders(region)
    struck = target.wipe_reminders("a")
    assert region.asked == ["PATCH /process/stop/scheduler", "POST /process/start/scheduler"]
    assert (struck.evidence, struck.proven) == ({"files-removed": 1, "gone": True}, True)
    assert not data.exists()


def test_where_no_scheduler_runs_no_reminder_is_wiped(region: Region, target: LocalTarget) -> None:
    data = reminders(region)
    with pytest.raises(NotInjectedError, match="no scheduler runs in region a"):
        target.wipe_reminders("a")
    assert data.exists()


def test_a_store_without_reminders_is_not_proven_wiped(region: Region, target: LocalTarget) -> None:
    region.put("scheduler", 1, "scheduler")
    (reminders(region) / "db").unlink()
    assert not target.wipe_reminders("a").proven


def test_a_database_is_lost_while_its_node_is_down_and_stays_down(region: Region, target: LocalTarget) -> None:
    region.put("postgres", 1, "postgres")
    files = region.place.regions["a"].attempts_dir / "postgres"
    files.mkdir(parents=True)
    (files / "PG_VERSION").write_text("15")
    struck = target.wipe_database("a")
    assert region.asked == ["PATCH /process/stop/postgres"]
    assert (struck.evidence, struck.proven, struck.until) == ({"files-removed": 1, "gone": True}, True, None)
    assert list(files.parent.glob("postgres*")) == []


@pytest.fixture
def moves(region: Region, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], LocalTarget]:
    """Faults on a deployment whose switchover ends as a test says."""

    def told(switch_over: Any) -> LocalTarget:
        monkeypatch.setattr(local, "Doors", lambda _: nullcontext())
        monkeypatch.setattr(local, "switch_over", switch_over)
        return LocalTarget(region.place)

    return told


def test_a_switchover_is_told_with_its_phases(moves: Callable[[Any], LocalTarget]) -> None:
    struck = moves(lambda _, to: Moved("a", to, 2, (Phase("region b is active", 1.23456),))).switch_over("b")
    assert (struck.killed, struck.proven) == ((), True)
    assert struck.evidence == {"phases": {"region b is active": 1.235}}


@pytest.mark.parametrize("error", [NotPossible("no standby"), NotFinished("not within 60 s")])
def test_a_switchover_that_did_not_happen_is_no_fault(moves: Callable[[Any], LocalTarget], error: Exception) -> None:
    def refuse(*_: object) -> Moved:
        raise error

    with pytest.raises(NotInjectedError, match=str(error)):
        moves(refuse).switch_over("b")


def test_a_target_says_what_it_can_and_why_it_can_not(target: LocalTarget) -> None:
    assert target.can("freeze") == ""
    assert target.can("clock") == "a local deployment offers no clock"  # type: ignore[arg-type]


@pytest.fixture
def place(tmp_path: Path) -> Manifest:
    return manifest(tmp_path)


def test_a_failover_by_hand_is_told_in_patronis_words(place: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    class Doors:
        said = "Successfully failed over"

        def __init__(self, _: Manifest) -> None: ...
        def __enter__(self) -> Doors:
            return self

        def __exit__(self, *_: object) -> None: ...
        def fail_over(self, region: str, candidate: str, timeout: float) -> str:
            asked.append((region, candidate))
            if not self.said:
                raise Unanswered("refused (412): no")
            return self.said

    monkeypatch.setattr(local, "Doors", Doors)
    struck = LocalTarget(place).fail_over_by_hand("b")
    assert (struck.proven, struck.evidence, asked) == (True, {"patroni-said": Doors.said}, [("b", "b")])
    Doors.said = ""
    with pytest.raises(NotInjectedError, match="412"):
        LocalTarget(place).fail_over_by_hand("b")


def test_without_a_provider_models_can_not_be_troubled(place: Manifest) -> None:
    assert "model=refund_desk:provided" in LocalTarget(place).can("provider")
    provided = place.model_copy(update={"payments": place.payments.model_copy(update={"provider": "https://p"})})
    assert LocalTarget(provided).can("provider") == ""


def test_a_targets_parts_do_what_it_is_asked(place: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[str] = []

    class Told:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getattr__(self, what: str) -> Any:
            def do(*arguments: object) -> Any:
                did.append(" ".join(map(str, (self.name, what, *arguments))))
                return True

            return do

    target = LocalTarget(place)
    for name in ("outside", "limits", "certificates", "processes"):
        monkeypatch.setattr(target, f"_{name}", Told(name))
    monkeypatch.setattr(target, "running", lambda *_: {"api": 7})
    target.control("payments", "GET", "/x")
    target.starve("a", "api", "files")
    target.sate("a", "api")
    target.throttle("a", "api", 0.05, 15.0)
    target.expire_certificate("a")
    target.renew_certificate("a")
    assert [" ".join(one.split()[:4]) if "kill" in one else one for one in did] == [
        "outside control payments GET /x None",
        "limits starve {'api': 7} files",
        "limits sate {'api': 7}",
        "limits throttle {'api': 7} 0.05 15.0",
        "certificates expire a",
        "processes kill a api",
        "certificates seen a True",
        "certificates renew a",
        "processes kill a api",
        "certificates demand_valid a",
    ]
