"""Processes are restarted in turn, each awaited; a standby's scheduler and sidecars are left to its region agent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from infra import restart as restarting
from infra.local.errors import PartError
from infra.local.supervisor import ProcessStatus
from infra.manifest import Region
from infra.restart import Restarted, chosen, restart
from infra.switchover import NotFinished, NotPossible
from tests.support.deployments import manifest

pytestmark = pytest.mark.unit


class Supervisor:
    """Restarts what it is told to, except what is broken."""

    def __init__(self) -> None:
        running = {"api": 1, "worker-1": 2, "worker-2": 3, "sentry": 4}
        self.processes = {name: ProcessStatus(name, pid, True, 0, 0, "Running") for name, pid in running.items()}
        for name in ("scheduler", "daprd-1"):
            self.processes[name] = ProcessStatus(name, 0, False, 0, 0, "Completed")
        self.asked: list[str] = []
        self.broken = self.refuses = self.silent = False

    def status(self, _: Path) -> dict[str, ProcessStatus] | None:
        return None if self.silent else dict(self.processes)

    def ask(self, _: Path, method: str, path: str, timeout: float) -> None:
        self.asked.append(f"{method} {path}")
        if self.refuses:
            raise PartError("the supervisor refused it")
        name = path.rpartition("/")[2]
        pid = self.processes[name].pid + 100
        state = {"pid": pid, "running": not self.broken, "status": "Restarting" if self.broken else "Running"}
        self.processes[name] = replace(self.processes[name], **state)  # type: ignore[arg-type]


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    made = Supervisor()
    monkeypatch.setattr(restarting, "status", made.status)
    monkeypatch.setattr(restarting, "ask", made.ask)
    monkeypatch.setattr(restarting, "_POLL_SECONDS", 0.001)
    return made


@pytest.fixture
def region(tmp_path: Path) -> Region:
    made = manifest(tmp_path).regions["a"]
    made.role_file.parent.mkdir(parents=True)
    made.role_file.write_text('{"role": "active"}')
    return made


@pytest.mark.usefixtures("supervisor")
def test_a_word_names_a_process_or_all_of_a_kind(region: Region) -> None:
    assert chosen(region, ["worker", "api", "worker-1"]) == ["worker-1", "worker-2", "api"]
    with pytest.raises(LookupError, match=r"region-a has no process 'work'; it has api, daprd-1, scheduler"):
        chosen(region, ["api", "work"])


def test_each_runs_again_before_the_next(region: Region, supervisor: Supervisor) -> None:
    told: list[Restarted] = []
    done = restart(region, ["api", "scheduler"], told.append)
    assert supervisor.asked == ["POST /process/restart/api", "POST /process/start/scheduler"]
    assert [one.name for one in done] == ["api", "scheduler"]
    assert told == done


def test_the_process_of_before_does_not_pass_for_the_new_one(
    region: Region, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarting, "ask", lambda *_, timeout: None)
    with pytest.raises(NotFinished, match="api of region-a does not run again"):
        restart(region, ["api"], deadline_seconds=0.01)
    assert supervisor.processes["api"].running


def test_one_that_does_not_run_again_ends_it(region: Region, supervisor: Supervisor) -> None:
    supervisor.broken = True
    with pytest.raises(NotFinished, match=r"api of region-a does not run again \(restarting\): see .*api\.log"):
        restart(region, ["api", "sentry"], deadline_seconds=0.01)
    assert supervisor.asked == ["POST /process/restart/api"]


def test_what_the_supervisor_refuses_is_told(region: Region, supervisor: Supervisor) -> None:
    supervisor.refuses = True
    with pytest.raises(NotFinished, match="api of region-a was not restarted: the supervisor refused it"):
        restart(region, ["api"])


def test_without_a_supervisor_nothing_is_restarted(region: Region, supervisor: Supervisor) -> None:
    supervisor.silent = True
    with pytest.raises(NotPossible, match="does not answer: `holdfast up` starts it"):
        chosen(region, ["api"])


@pytest.mark.parametrize("role", ['{"role": "standby"}', "half a fi", None])
def test_a_standby_keeps_its_scheduler_stopped(region: Region, supervisor: Supervisor, role: str | None) -> None:
    region.role_file.write_text(role) if role else region.role_file.unlink()
    with pytest.raises(NotPossible, match="daprd-1 of region-a runs only while the region is active"):
        restart(region, ["api", "daprd-1"])
    assert supervisor.asked == []
    assert restart(region, ["sentry"])
