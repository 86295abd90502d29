"""The steps of a change of role have an order, and each may be repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from region_agent import activation
from region_agent.activation import LOOK_SECONDS, ActivationError, RegionProcesses
from region_agent.config import AgentConfig
from region_agent.events import EventLog
from region_agent.role import Role, RoleFile, RoleName
from region_agent.supervisor import SupervisorError

from tests.unit.region_agent.stand_ins import Clock, ToldSupervisor, client_of

pytestmark = pytest.mark.unit

Told = Callable[[], list[dict[str, Any]]]
CHANGED = ["role activating 3", "stop scheduler", "start scheduler", "start daprd-1", "start daprd-2"]


class NotedRole(RoleFile):
    """A role file that adds each write to `did`."""

    def __init__(self, config: AgentConfig, did: list[str]) -> None:
        super().__init__(config.role_file, config.region)
        self.did = did

    def write(self, role: RoleName, epoch: int) -> Role:
        self.did.append(f"role {role} {epoch}")
        return super().write(role, epoch)


class Region:
    """A region's processes; `did` is what was done to them and to the role file, in order."""

    def __init__(self, config: AgentConfig, events: EventLog) -> None:
        self.did: list[str] = []
        self.supervisor = ToldSupervisor(self.did)
        self.role_file = NotedRole(config, self.did)
        self.data = config.scheduler.data_dir
        self.marker = self.data.with_name("scheduler.epoch")
        self.metadata: dict[int, httpx.Response | Exception] = {}
        self.refused: set[int] = set()
        self.on_asked: Callable[[str], object] = lambda question: None
        self.processes = RegionProcesses(
            config,
            self.supervisor,  # type: ignore[arg-type]
            self.role_file,
            events,
            client_of(self._answer),
        )

    def activate(self, epoch: int = 3) -> list[str]:
        return self._done(self.processes.activate(epoch))

    def deactivate(self, epoch: int = 3) -> list[str]:
        return self._done(self.processes.deactivate(epoch))

    def remember(self, epoch: str) -> None:
        """The scheduler has reminders of this epoch, and runs."""
        self.data.mkdir(parents=True)
        (self.data / "reminders").write_text("run activity 7 again")
        self.marker.write_text(epoch)
        self.supervisor.run("scheduler")

    def _done(self, change: Any) -> list[str]:
        self.did.clear()
        try:
            asyncio.run(change)
        finally:
            done = list(self.did)
        return done

    def _answer(self, request: httpx.Request) -> httpx.Response:
        port = request.url.port or 0
        if port in self.refused:
            raise httpx.ConnectError("refused")
        self.did.append(f"ask {port}{request.url.path}")
        self.on_asked(self.did[-1])
        if request.url.path != "/v1.0/metadata":
            return httpx.Response(204)
        answer = self.metadata.get(port, workers(1))
        if isinstance(answer, Exception):
            raise answer
        return answer


def workers(number: object) -> httpx.Response:
    return httpx.Response(200, json={"id": "refund-desk", "workflows": {"connectedWorkers": number}})


@pytest.fixture
def region(config: AgentConfig, events: EventLog) -> Region:
    return Region(config, events)


def test_an_activation_keeps_its_order(region: Region) -> None:
    region.remember("2")
    done = region.activate()
    assert done[:5] == CHANGED
    assert sorted(done[5:-1]) == [
        f"ask {port}/v1.0/{path}" for port in (101, 102) for path in ("healthz/outbound", "metadata")
    ]
    assert done[-1] == "role active 3"


@pytest.mark.parametrize("marker", ["2", "4", "33", "", None])
def test_reminders_of_another_epoch_or_of_none_are_gone_before_the_scheduler_starts(
    region: Region, marker: str | None
) -> None:
    region.remember(marker or "")
    if marker is None:
        region.marker.unlink()
    seen: list[bool] = []
    start = region.supervisor.start

    async def noted(process: str) -> None:
        seen.append(region.data.exists())
        await start(process)

    region.supervisor.start = noted  # type: ignore[method-assign]
    region.activate()
    assert "stop scheduler" in region.did
    assert not any(seen)
    assert region.marker.read_text() == "3"


@pytest.mark.parametrize("marker", ["3", "fresh"])
def test_reminders_of_this_epoch_and_a_scheduler_that_started_fresh_are_left_alone(region: Region, marker: str) -> None:
    region.remember(marker)
    done = region.activate()
    assert (region.data / "reminders").exists()
    assert "stop scheduler" not in done
    assert region.marker.read_text() == "3"


def test_activating_again_does_nothing_but_look(region: Region, told: Told) -> None:
    first = region.activate()
    region.data.mkdir()
    again = region.activate()
    assert [one for one in again if not one.startswith("ask")] == ["role activating 3", "role active 3"]
    assert region.data.exists()
    assert first[-1] == again[-1]
    assert [one["event"] for one in told()].count("activated") == 2


def test_a_deactivation_keeps_its_order(region: Region) -> None:
    region.activate()
    region.data.mkdir()
    assert region.deactivate() == [
        "role standby 3",
        "stop daprd-1",
        "stop daprd-2",
        "stop scheduler",
        "start scheduler",
    ]
    assert not region.data.exists()
    assert region.marker.read_text() == "fresh"


def test_a_host_of_tools_runs_while_the_region_is_active(region: Region, config: AgentConfig) -> None:
    region.processes.config = config.model_copy(update={"also": ("tool-host",)})
    region.activate()
    assert "start tool-host" in region.did
    region.deactivate()
    assert "stop tool-host" in region.did


def test_deactivating_again_is_harmless(region: Region) -> None:
    region.activate()
    region.deactivate()
    assert region.deactivate() == ["role standby 3", "stop scheduler", "start scheduler"]
    assert set(region.supervisor.pids) == {"scheduler"}


@pytest.mark.parametrize("refused", ["stop daprd-1", "stop daprd-2", "stop scheduler", "start scheduler", "running"])
def test_a_deactivation_that_was_broken_off_has_told_the_role_and_is_finished_by_the_next(
    region: Region, refused: str
) -> None:
    region.activate()
    region.data.mkdir()
    region.supervisor.refusing = {refused}
    if refused != "running":
        with pytest.raises(SupervisorError):
            region.deactivate()
        assert region.did[0] == "role standby 3"
    region.supervisor.refusing = set()
    region.deactivate()
    assert set(region.supervisor.pids) == {"scheduler"}
    assert not region.data.exists()


@pytest.mark.parametrize("refused", ["stop scheduler", "start scheduler", "start daprd-2"])
def test_an_activation_that_was_broken_off_is_finished_by_the_next_without_old_reminders(
    region: Region, refused: str
) -> None:
    region.remember("2")
    region.supervisor.refusing = {refused}
    with pytest.raises(SupervisorError):
        region.activate()
    assert region.did[-1] != "role active 3"
    region.supervisor.refusing = set()
    assert region.activate()[-1] == "role active 3"
    assert not region.data.exists()
    assert set(region.supervisor.pids) == {"scheduler", "daprd-1", "daprd-2"}


@pytest.mark.parametrize(
    "answer",
    [
        workers(0),
        workers(None),
        httpx.Response(200, json={}),
        httpx.Response(200, json={"workflows": None}),
        httpx.Response(500, text="no"),
        httpx.ReadTimeout("silent"),
    ],
    ids=["none", "null", "unsaid", "no-workflows", "nonsense", "silent"],
)
def test_a_sidecar_that_does_not_say_it_has_a_worker_has_none(
    region: Region, monkeypatch: pytest.MonkeyPatch, answer: httpx.Response | Exception
) -> None:
    monkeypatch.setattr(activation, "READY_SECONDS", 0.03)
    region.metadata = {101: answer, 102: answer}
    with pytest.raises(ActivationError, match=r"no sidecar had a worker within 0.03 s; see the logs of the region"):
        region.activate()
    assert region.did[0] == "role activating 3"
    assert "role active 3" not in region.did


def test_a_worker_that_comes_after_another_sidecar_was_given_up_is_enough(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    region.refused, region.metadata = {101, 102}, {102: workers(0)}

    def go_on() -> None:
        waited = clock.now - 1000
        if waited > 0.7:
            region.refused.discard(102)
        if waited > 1.3:
            region.metadata[102] = workers(1)

    clock = Clock(*[go_on] * 200)
    monkeypatch.setattr(activation, "READY_SECONDS", 1.0)
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    monkeypatch.setattr(activation, "time", clock)
    assert region.activate()[-1] == "role active 3"
    assert set(clock.slept) == {LOOK_SECONDS}
    assert clock.now - 1000 > 1.0


def test_a_worker_that_comes_soon_after_the_first_is_waited_for(
    region: Region, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activation, "LOOK_SECONDS", 0.001)
    region.metadata[102] = workers(0)

    def come(question: str) -> None:
        if region.did.count("ask 102/v1.0/metadata") == 5:
            region.metadata[102] = workers(1)

    region.on_asked = come
    region.activate()
    assert [one.get("process") for one in told() if one["event"] in ("worker-ready", "activated")] == [
        "daprd-1",
        "daprd-2",
        None,
    ]


def test_each_sidecar_is_told_of_when_it_and_its_worker_are_there(region: Region, told: Told) -> None:
    region.activate()
    ready = [(one["event"], one["process"]) for one in told() if one["event"].endswith("-ready")]
    assert sorted(ready) == [(f"{what}-ready", f"daprd-{n}") for what in ("sidecar", "worker") for n in (1, 2)]
