"""A pod knows its region's role, and its worker and sidecar fail together."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from region_agent import companion
from region_agent.companion import CompanionConfig, PairedProcesses, PodProcesses, RoleMirror, RoleSource, run
from region_agent.events import EventLog
from region_agent.role import RoleFile

from infra.certificates import Root
from tests.unit.region_agent.stand_ins import Clock, OverError

pytestmark = pytest.mark.unit


class Agent:
    """What the region agent answers; nothing: it does not."""

    def __init__(self) -> None:
        self.role: dict[str, Any] | None = None

    def says(self, role: str, epoch: int) -> None:
        self.role = {"region": "a", "role": role, "epoch": epoch, "since": "2026-01-01T00:00:00Z"}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.url == "https://agent/role"
        if self.role is None:
            raise httpx.ConnectError("gone")
        return httpx.Response(200, json=self.role)


@pytest.fixture
def agent() -> Agent:
    return Agent()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(companion.time, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def mirror(agent: Agent, clock: Clock, tmp_path: Path, events: EventLog) -> RoleMirror:
    source = RoleSource(
        region="a", agent="https://agent", token_file=tmp_path / "token", role_file=tmp_path / "run" / "role.json"
    )
    return RoleMirror(source, httpx.AsyncClient(transport=httpx.MockTransport(agent)), events)


def written(mirror: RoleMirror) -> tuple[str, int] | None:
    role = RoleFile(mirror.source.role_file, "a").read()
    return (role.role, role.epoch) if role else None


def test_the_file_says_what_the_agent_says(mirror: RoleMirror, agent: Agent) -> None:
    asyncio.run(mirror.look())
    assert written(mirror) is None

    for said in (("standby", 3), ("activating", 4), ("active", 4), ("active", 5)):
        agent.says(*said)
        asyncio.run(mirror.look())
        assert written(mirror) == said


def test_a_role_that_stays_is_not_written_again(mirror: RoleMirror, agent: Agent) -> None:
    agent.says("active", 4)
    asyncio.run(mirror.look())
    before = mirror.source.role_file.stat().st_mtime_ns
    asyncio.run(mirror.look())

    assert mirror.source.role_file.stat().st_mtime_ns == before


def test_a_pod_that_has_lost_its_agent_stands_by(mirror: RoleMirror, agent: Agent, clock: Clock, told: Any) -> None:
    agent.says("active", 4)
    asyncio.run(mirror.look())
    agent.role = None
    clock.now += mirror.source.lost_after_seconds
    asyncio.run(mirror.look())
    assert written(mirror) == ("active", 4)

    clock.now += 0.1
    asyncio.run(mirror.look())
    assert written(mirror) == ("standby", 4)
    assert [event["event"] for event in told()] == ["agent-lost"]

    agent.says("active", 4)
    asyncio.run(mirror.look())
    assert written(mirror) == ("active", 4)


def test_it_looks_again_and_again(mirror: RoleMirror, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(lambda: agent.says("active", 1), lambda: agent.says("standby", 2))
    monkeypatch.setattr(companion.asyncio, "sleep", clock.sleep)

    with pytest.raises(OverError):
        asyncio.run(mirror.watch())
    assert written(mirror) == ("standby", 2)


@pytest.fixture
def sidecar() -> Iterator[subprocess.Popen[bytes]]:
    code = "import sys; sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", code, "a-sidecar-of-this-test"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()


def test_the_pairs_halves_are_found_by_their_commands(sidecar: subprocess.Popen[bytes]) -> None:
    processes = PodProcesses(PairedProcesses(sidecar="a-sidecar-of-this-test", worker="nobody.is.called.so"))

    assert asyncio.run(processes.running()) == {"sidecar": sidecar.pid}

    async def neither() -> None:
        await processes.start("sidecar")
        await processes.stop("sidecar")

    asyncio.run(neither())
    assert sidecar.poll() is None


def test_a_half_that_has_ended_does_not_run(sidecar: subprocess.Popen[bytes]) -> None:
    sidecar.kill()
    processes = PodProcesses(PairedProcesses(sidecar="a-sidecar-of-this-test", worker="nobody.is.called.so"))

    assert asyncio.run(processes.running()) == {}


def test_everything_that_is_configured_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Server:
        async def serve_forever(self) -> None:
            done.append("tunnel")

    async def opened(tunnels: list[Any], tls: Any) -> list[Server]:
        return [Server() for _ in tunnels]

    async def watched(self: Any) -> None:
        done.append(type(self).__name__)

    monkeypatch.setattr(companion, "open_tunnels", opened)
    monkeypatch.setattr(companion.Pairs, "watch", watched)
    monkeypatch.setattr(companion.RoleMirror, "watch", watched)
    root = Root(Root.new())
    leaf = root.leaf("pod")
    for name, content in {"ca": root.certificate, "cert": leaf.certificate, "key": leaf.key, "token": b"t"}.items():
        (tmp_path / name).write_bytes(content)
    everything = {
        "tls": {name: str(tmp_path / name) for name in ("ca", "cert", "key")},
        "tunnels": [{"direction": "in", "listen": "127.0.0.1:1", "to": "127.0.0.1:2"}],
        "pair": {},
        "role": {
            "region": "a",
            "agent": "https://agent",
            "token_file": str(tmp_path / "token"),
            "role_file": str(tmp_path / "role.json"),
        },
        "events_file": str(tmp_path / "events.jsonl"),
    }

    asyncio.run(run(CompanionConfig.model_validate(everything)))
    assert sorted(done) == ["Pairs", "RoleMirror", "tunnel"]

    done.clear()
    nothing = {key: everything[key] for key in ("tls", "events_file")}
    (tmp_path / "companion.json").write_text(json.dumps(nothing))
    assert companion.main(["--config", str(tmp_path / "companion.json")]) == 0
    assert done == []
