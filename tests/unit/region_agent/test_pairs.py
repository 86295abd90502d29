"""Each worker that dies takes its own sidecar with it, whatever else happens at that moment."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from region_agent import pairs
from region_agent.config import AgentConfig
from region_agent.events import EventLog
from region_agent.pairs import LOOK_SECONDS, SAVING_SECONDS, UNKNOWN_SECONDS, Pairs

from tests.unit.region_agent.stand_ins import Clock, OverError, ToldSupervisor

pytestmark = pytest.mark.unit

PAIRS = ("worker-1", "daprd-1", "worker-2", "daprd-2")


class Machine:
    """Two pairs under a supervisor. A process is alive while the supervisor has it."""

    def __init__(self, config: AgentConfig, events: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
        self.supervisor = ToldSupervisor()
        self.supervisor.run(*PAIRS)
        self.first = dict(self.supervisor.pids)
        self.killed: list[str] = []
        self.clock = Clock()
        self._watched = Pairs(config.sidecars, self.supervisor, events, self._lives, self._kill)  # type: ignore[arg-type]
        self._patch = monkeypatch

    def watch(self, *moments: Callable[[], object]) -> None:
        """Watch until every moment has been; one happens in each pause."""
        self.clock = Clock(*moments)
        self._patch.setattr(asyncio, "sleep", self.clock.sleep)
        with pytest.raises(OverError):
            asyncio.run(self._watched.watch())

    def end(self, *names: str) -> Callable[[], object]:
        return lambda: self.supervisor.end(*names)

    def restart(self, *names: str) -> Callable[[], object]:
        return lambda: self.supervisor.run(*names)

    def refuse(self, refuse: bool) -> Callable[[], object]:
        change = self.supervisor.refusing.add if refuse else self.supervisor.refusing.discard
        return lambda: change("running")

    def _lives(self, pid: int) -> bool:
        return pid in self.supervisor.pids.values()

    def _kill(self, pid: int, number: int) -> None:
        name = next((name for name, one in self.supervisor.pids.items() if one == pid), None)
        if name is None:
            raise ProcessLookupError
        assert number == (signal.SIGKILL if name.startswith("daprd") else signal.SIGTERM)
        self.killed.append(name)


@pytest.fixture
def machine(config: AgentConfig, events: EventLog, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(config, events, monkeypatch)


def nothing() -> None:
    """Happens."""


def test_pairs_that_live_are_left_alone_and_the_supervisor_is_asked_once(machine: Machine) -> None:
    asked: list[int] = []
    running = machine.supervisor.running

    async def counted() -> dict[str, int]:
        asked.append(1)
        return await running()

    machine.supervisor.running = counted  # type: ignore[method-assign]
    machine.watch(*[nothing] * 20)
    assert machine.killed == []
    assert set(machine.clock.slept) == {LOOK_SECONDS}
    assert len(asked) == 1


@pytest.mark.parametrize("number", [1, 2])
def test_a_worker_that_dies_takes_its_own_sidecar_with_it_after_a_pause_for_saving(
    machine: Machine, number: int
) -> None:
    machine.watch(machine.end(f"worker-{number}"), nothing, nothing, machine.restart(f"worker-{number}"), nothing)
    assert machine.killed == [f"daprd-{number}"]
    assert machine.clock.slept[:3] == [LOOK_SECONDS, SAVING_SECONDS, UNKNOWN_SECONDS]


def test_a_worker_that_was_started_again_before_anybody_looked_has_died_all_the_same(machine: Machine) -> None:
    machine.watch(machine.restart("worker-1"), nothing, nothing)
    assert machine.killed == ["daprd-1"]


def test_a_worker_dies_as_often_as_it_likes(machine: Machine) -> None:
    machine.watch(
        machine.end("worker-1"),
        nothing,
        machine.restart("worker-1", "daprd-1"),
        machine.end("worker-1"),
        nothing,
        nothing,
    )
    assert machine.killed == ["daprd-1", "daprd-1"]


def test_both_workers_at_once_take_both_sidecars(machine: Machine) -> None:
    machine.watch(machine.end("worker-1", "worker-2"), nothing, nothing)
    assert machine.killed == ["daprd-1", "daprd-2"]


@pytest.mark.parametrize("again", [True, False], ids=["started again", "still down"])
def test_a_worker_that_dies_while_another_ones_sidecar_saves_takes_its_own_too(machine: Machine, again: bool) -> None:
    second = machine.restart("worker-2") if again else machine.end("worker-2")
    machine.watch(machine.end("worker-1"), second, nothing, nothing, nothing)
    assert sorted(machine.killed) == ["daprd-1", "daprd-2"]


def test_a_sidecar_that_has_ended_too_is_not_killed(machine: Machine, told: Callable[[], list[dict[str, Any]]]) -> None:
    machine.watch(machine.end("worker-1", "daprd-1"), nothing, nothing)
    assert machine.killed == []
    assert [(one["process"], one["worker"]) for one in told()] == [("daprd-1", "worker-1")]


def test_a_sidecar_that_ends_just_before_it_is_killed_is_no_error(
    machine: Machine, told: Callable[[], list[dict[str, Any]]]
) -> None:
    running = machine.supervisor.running

    async def late() -> dict[str, int]:
        pids = await running()
        if "worker-1" not in pids:
            machine.supervisor.end("daprd-1")
        return pids

    machine.supervisor.running = late  # type: ignore[method-assign]
    machine.watch(machine.end("worker-1"), nothing, nothing)
    assert machine.killed == []
    assert [one["event"] for one in told()] == ["sidecar-ended"]


def test_a_worker_that_did_not_run_at_first_is_known_once_it_runs(machine: Machine) -> None:
    machine.end("worker-2")()
    machine.watch(nothing, machine.restart("worker-2"), nothing, machine.end("worker-2"), nothing, nothing)
    assert machine.killed == ["daprd-2"]
    assert machine.clock.slept[0] == UNKNOWN_SECONDS


def test_a_supervisor_that_does_not_answer_is_recorded_and_asked_again(
    machine: Machine, told: Callable[[], list[dict[str, Any]]]
) -> None:
    machine.refuse(True)()
    machine.watch(nothing, machine.refuse(False), nothing, machine.end("worker-1"), nothing, nothing)
    assert [one["event"] for one in told()] == ["pairs-unknown", "pairs-unknown", "sidecar-ended"]
    assert told()[0]["error"] == "the supervisor refused running"
    assert machine.killed == ["daprd-1"]


def test_a_sidecar_that_could_not_be_ended_is_ended_when_the_supervisor_answers(
    machine: Machine, told: Callable[[], list[dict[str, Any]]]
) -> None:
    def die_unseen() -> None:
        machine.refuse(True)()
        machine.restart("worker-1")()

    machine.watch(die_unseen, nothing, machine.refuse(False), nothing, nothing)
    assert machine.killed == ["daprd-1"]
    assert [one["event"] for one in told()] == ["pairs-unknown", "sidecar-ended"]


@pytest.mark.parametrize("number", [1, 2])
def test_a_sidecar_that_dies_ends_its_own_worker_at_once(
    machine: Machine, number: int, told: Callable[[], list[dict[str, Any]]]
) -> None:
    machine.watch(machine.end(f"daprd-{number}"), nothing, nothing, machine.restart(f"daprd-{number}"), nothing)
    assert machine.killed == [f"worker-{number}"]
    assert SAVING_SECONDS not in machine.clock.slept
    assert [(one["event"], one["worker"]) for one in told()] == [("worker-ended", f"worker-{number}")]


def test_a_sidecar_that_was_started_again_before_anybody_looked_has_died_all_the_same(machine: Machine) -> None:
    machine.watch(machine.restart("daprd-1"), nothing, nothing)
    assert machine.killed == ["worker-1"]


def test_the_end_of_the_half_that_was_left_ends_nothing_more(machine: Machine) -> None:
    # The worker that was told to end is still there when the supervisor is asked, and dies after that.
    machine.watch(
        machine.restart("daprd-1"),
        nothing,
        machine.restart("worker-1"),
        nothing,
        nothing,
        machine.end("daprd-1"),
        nothing,
    )
    assert machine.killed == ["worker-1", "worker-1"]


def test_the_end_of_a_sidecar_that_was_killed_for_its_worker_ends_no_new_worker(machine: Machine) -> None:
    machine.watch(machine.restart("worker-1"), nothing, nothing, machine.restart("daprd-1"), nothing, nothing)
    assert machine.killed == ["daprd-1"]


def test_a_worker_that_ends_just_before_it_is_told_to_is_no_error(machine: Machine) -> None:
    lives = machine._watched.alive

    def worker_lives_on(pid: int) -> bool:
        return pid == machine.first["worker-1"] or lives(pid)

    machine._watched.alive = worker_lives_on
    machine.watch(machine.end("daprd-1", "worker-1"), nothing, nothing)
    assert machine.killed == []


def test_a_process_is_known_to_live_by_its_id() -> None:
    assert pairs._alive(os.getpid())
    assert not pairs._alive(2**31 - 1)
