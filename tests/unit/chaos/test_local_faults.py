"""A fault kills only what it should, and says of itself whether it was in force."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from chaos.faults import NotInjectedError, local
from chaos.faults.local import LocalFaults
from chaos.history import Attempt
from infra.local.supervisor import ProcessStatus
from infra.manifest import Manifest
from infra.switchover import Moved, NotFinished, NotPossible, Phase
from tests.support.deployments import manifest
from tests.support.histories import attempt

pytestmark = pytest.mark.unit
WORKERS = {"worker-1": 31, "worker-2": 32}


@dataclass(eq=False)
class ToldProcess:
    """Dies when it is killed, except where it was told to go on; says so to everybody."""

    title: str
    pid: int
    killed: list[int] = field(default_factory=list)
    survives: bool = False
    gone_before: bool = False

    def name(self) -> str:
        return self.title

    def kill(self) -> None:
        if self.gone_before:
            raise psutil.NoSuchProcess(self.pid)
        self.killed.append(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        if self.survives:
            raise psutil.TimeoutExpired(timeout or 0.0, self.pid)
        return -9

    @property
    def lives(self) -> bool:
        return self.survives or not (self.gone_before or self.pid in self.killed)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    monkeypatch.setattr(local, "GONE_SECONDS", 0.1)
    monkeypatch.setattr(local, "MID_TOOL_SECONDS", 0.1)
    return manifest(tmp_path)


def region_of(processes: list[ToldProcess], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The region consists of these processes; answers with the list of those that are killed, in order."""
    killed: list[int] = []
    for process in processes:
        process.killed = killed
    monkeypatch.setattr(local, "members", lambda *_: [process for process in processes if process.lives])
    return killed


def no_moment() -> set[str]:
    return set()


def test_a_region_is_lost_at_its_moment_supervisor_first(place: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = region_of(
        [ToldProcess("postgres", 1), ToldProcess("process-compose", 2), ToldProcess("daprd", 3)], monkeypatch
    )
    before: list[list[int]] = []

    def moment() -> set[str]:
        before.append(list(killed))
        return set()

    fault = LocalFaults(place).lose_region("a", moment)
    assert before == [[]]
    assert killed == [2, 1, 3]
    assert (fault.name, fault.target, fault.killed, fault.proven) == ("region-loss", "region a", [2, 1, 3], True)
    assert fault.evidence == {"killed": 3, "still-running": [], "still-listening": []}


def test_what_was_started_meanwhile_is_killed_too(place: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    processes = [ToldProcess("process-compose", 1)]
    killed = region_of(processes, monkeypatch)

    def moment() -> set[str]:
        processes.append(ToldProcess("worker", 2, killed))
        return set()

    fault = LocalFaults(place).lose_region("a", moment)
    assert killed == fault.killed == [1, 2]
    assert fault.proven


def test_what_ended_by_itself_is_no_hindrance(place: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    processes = [ToldProcess("process-compose", 1), ToldProcess("worker", 2)]
    killed = region_of(processes, monkeypatch)

    def moment() -> set[str]:
        processes[1].gone_before = True
        return set()

    assert LocalFaults(place).lose_region("a", moment).proven
    assert killed == [1]


def test_a_region_of_which_something_lives_on_is_not_proven_lost(
    place: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    region_of([ToldProcess("process-compose", 1), ToldProcess("postgres", 2, survives=True)], monkeypatch)
    fault = LocalFaults(place).lose_region("a", no_moment)
    assert not fault.proven
    assert fault.evidence["still-running"] == [2]


def test_a_region_of_which_nothing_ran_is_not_proven_lost(place: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    region_of([], monkeypatch)
    assert not LocalFaults(place).lose_region("a", no_moment).proven


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_region_that_still_listens_is_not_proven_lost(
    place: Manifest, monkeypatch: pytest.MonkeyPatch, listening: int
) -> None:
    region_of([ToldProcess("process-compose", 1)], monkeypatch)
    site = place.regions["a"].model_copy(update={"postgres_port": listening})
    fault = LocalFaults(place.model_copy(update={"regions": {**place.regions, "a": site}})).lose_region("a", no_moment)
    assert not fault.proven
    assert fault.evidence["still-listening"] == [listening]


def test_a_lost_region_is_started_by_its_supervisor(place: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, Path]] = []
    monkeypatch.setattr(local, "start_site", lambda site: started.append((site.name, site.directory)))
    (place.directory / "region-a").mkdir()
    LocalFaults(place).return_region("a")
    assert started == [("region-a", place.directory / "region-a")]


@dataclass
class Workers:
    """The workers of region a, with what they wrote down."""

    place: Manifest
    killed: list[int] = field(default_factory=list)
    survives: bool = False

    def wrote(self, worker: str, *attempts: Attempt) -> None:
        path = self.place.regions["a"].attempts_dir / f"attempts-{worker}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(one.model_dump()) + "\n" for one in attempts))

    def process(self, pid: int) -> ToldProcess:
        return ToldProcess("worker", pid, self.killed, survives=self.survives)


@pytest.fixture
def workers(place: Manifest, monkeypatch: pytest.MonkeyPatch) -> Workers:
    made = Workers(place)
    running = {name: ProcessStatus(name, pid, True, 0, 0, "Running") for name, pid in WORKERS.items()}
    monkeypatch.setattr(local, "status", lambda _: running)
    monkeypatch.setattr(local.psutil, "Process", made.process)
    monkeypatch.setattr(local.psutil, "pid_exists", lambda _: made.survives)
    return made


def begun(pid: int, *ordinals: int, **changes: Any) -> list[Attempt]:
    return [attempt("run-1", ordinal, "started", float(ordinal), pid=pid, **changes) for ordinal in ordinals]


def test_the_worker_with_most_in_hand_is_crashed(workers: Workers) -> None:
    ended = attempt("run-1", 9, "ended", 9.5, pid=31)
    workers.wrote("worker-1", *begun(31, 1, 9), ended)
    workers.wrote("worker-2", *begun(32, 2, 3))
    fault = LocalFaults(workers.place).crash_worker("a", no_moment)
    assert (fault.name, fault.target) == ("worker-crash", "worker-2 of region a")
    assert workers.killed == fault.killed == [32]
    assert (fault.evidence, fault.proven) == ({"in-progress": ["run-1:2", "run-1:3"], "gone": True}, True)


def test_the_worker_in_the_middle_of_an_effect_is_crashed_before_the_busiest(workers: Workers) -> None:
    workers.wrote("worker-1", *begun(31, 1))
    workers.wrote("worker-2", *begun(32, 2, 3))
    fault = LocalFaults(workers.place).crash_worker("a", lambda: {"worker-1", "worker-of-b"})
    assert (fault.killed, fault.proven) == ([31], True)


def test_a_crash_that_cut_nothing_is_not_proven(workers: Workers) -> None:
    fault = LocalFaults(workers.place).crash_worker("a", lambda: {"worker-1"})
    assert (fault.killed, fault.proven) == ([31], False)


def test_a_worker_that_lives_on_is_not_proven_crashed(workers: Workers) -> None:
    workers.survives = True
    workers.wrote("worker-1", *begun(31, 1))
    fault = LocalFaults(workers.place).crash_worker("a", no_moment)
    assert (fault.evidence["gone"], fault.proven) == (False, False)


def test_a_worker_that_was_replaced_before_its_moment_is_looked_for_again(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers.wrote("worker-1", *begun(33, 1))

    def process(pid: int) -> ToldProcess:
        if pid == WORKERS["worker-1"]:
            monkeypatch.setattr(
                local, "status", lambda _: {"worker-1": ProcessStatus("worker-1", 33, True, 1, 0, "Running")}
            )
            raise psutil.NoSuchProcess(pid)
        return workers.process(pid)

    monkeypatch.setattr(local.psutil, "Process", process)
    fault = LocalFaults(workers.place).crash_worker("a", lambda: {"worker-1"})
    assert (fault.killed, fault.proven) == ([33], True)


@pytest.mark.parametrize(
    "attempts",
    [[], begun(31, 1, joined=True), begun(77, 1)],
    ids=["idle", "only joined another's", "of another process"],
)
def test_where_no_worker_is_busy_none_is_crashed(workers: Workers, attempts: list[Attempt]) -> None:
    workers.wrote("worker-1", *attempts)
    with pytest.raises(NotInjectedError, match=r"no worker of region a was in the middle of an operation for 0\.1 s"):
        LocalFaults(workers.place).crash_worker("a", no_moment)
    assert workers.killed == []


@pytest.fixture
def moves(place: Manifest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], LocalFaults]:
    """Faults on a deployment whose switchover ends as a test says."""

    def told(switch_over: Any) -> LocalFaults:
        monkeypatch.setattr(local, "Doors", lambda _: nullcontext())
        monkeypatch.setattr(local, "switch_over", switch_over)
        return LocalFaults(place)

    return told


def test_a_switchover_is_told_with_its_phases(moves: Callable[[Any], LocalFaults]) -> None:
    fault = moves(lambda _, to: Moved("a", to, 2, (Phase("region b is active", 1.23456),))).switch_over("b")
    assert (fault.name, fault.target, fault.killed, fault.proven) == ("switchover", "region b", [], True)
    assert fault.evidence == {"phases": {"region b is active": 1.235}}


@pytest.mark.parametrize("error", [NotPossible("no standby"), NotFinished("not within 60 s")])
def test_a_switchover_that_did_not_happen_is_no_fault(moves: Callable[[Any], LocalFaults], error: Exception) -> None:
    def refuse(*_: object) -> Moved:
        raise error

    with pytest.raises(NotInjectedError, match=str(error)):
        moves(refuse).switch_over("b")
