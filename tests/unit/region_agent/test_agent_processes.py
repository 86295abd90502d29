"""The region agent and the observer are wired from one file, and an agent that no longer follows does not stay."""

from __future__ import annotations

import asyncio
import os
import runpy
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic_ai_dapr.client import AgentRunClient
from region_agent import __main__ as process
from region_agent import observer
from region_agent.agent import RegionAgent
from region_agent.config import AgentConfig
from region_agent.observer import Observer, ObserverConfig
from region_agent.supervisor import Supervisor
from region_agent.workloads import KubernetesConfig, Workloads
from serving import Tls
from serving.tracing import Traces

from infra.certificates import Root

pytestmark = pytest.mark.unit

TOKEN = "the-token"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(autouse=True)
def without_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    monkeypatch.setattr(Tls, "client_context", lambda self: context)


@pytest.fixture
def file(config: AgentConfig, tmp_path: Path) -> Path:
    config.token_file.write_text(f"{TOKEN}\n")
    config.database_dsn_file.write_text("host=127.0.0.1 port=1\n")
    path = tmp_path / "region-agent.json"
    path.write_text(config.model_dump_json())
    return path


class Served:
    """Stands for the server: notes what it is given."""

    app: FastAPI
    given: tuple[Any, ...]
    options: dict[str, Any]

    def __call__(self, app: FastAPI, *given: Any, **options: Any) -> None:
        self.app, self.given, self.options = app, given, options


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    served = Served()
    monkeypatch.setattr(process, "serve", served)
    monkeypatch.setattr(observer, "serve", served)
    return served


class TestRegionAgent:
    def test_its_parts_are_the_files(self, config: AgentConfig, file: Path) -> None:
        agent = process.build_agent(config)
        assert agent.processes.events is agent.peer.events is agent.pairs.events is agent.events
        assert agent.processes.supervisor is agent.pairs.supervisor
        assert agent.processes.role_file is agent.role_file
        assert agent.processes.dapr.headers["dapr-api-token"] == TOKEN
        assert agent.pairs.sidecars == config.sidecars
        assert agent.peer.lease._endpoints == [config.etcd, *config.etcd_others]

    def test_on_kubernetes_its_processes_are_workloads(self, config: AgentConfig, file: Path, tmp_path: Path) -> None:
        (tmp_path / "api.crt").write_bytes(Root.new().certificate)
        clusters = KubernetesConfig(ca=tmp_path / "api.crt", workloads={})
        on_a_cluster = config.model_copy(update={"supervisor_socket": None, "kubernetes": clusters})

        assert isinstance(process.build_agent(config).pairs.supervisor, Supervisor)
        assert isinstance(process.build_agent(on_a_cluster).pairs.supervisor, Workloads)

    def test_it_waits_less_for_a_link_than_for_its_own_site(self, config: AgentConfig, file: Path) -> None:
        agent = process.build_agent(config)
        assert agent.peer.links.timeout == httpx.Timeout(process.LINK_SECONDS)
        assert agent.local.timeout == httpx.Timeout(process.LOCAL_SECONDS)
        assert agent.peer.lease._client.timeout == httpx.Timeout(process.LEASE_SECONDS)
        assert process.LINK_SECONDS < process.LOCAL_SECONDS

    def test_each_activation_gets_a_sweeper_with_a_client_for_each_sidecar(
        self, config: AgentConfig, file: Path
    ) -> None:
        agent = process.build_agent(config)
        first, second = agent.make_sweeper(), agent.make_sweeper()
        assert first is not second
        assert first.runs is agent.index
        assert first.stuck_after == config.stuck_after_seconds
        assert len(first.workflows) == len(config.sidecars)
        assert {type(client) for client in first.workflows} == {AgentRunClient}

    def test_it_follows_while_it_serves_and_ends_with_the_server(
        self, file: Path, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        did: list[str] = []

        async def run(self: RegionAgent) -> None:
            did.append("follow")
            try:
                await asyncio.Event().wait()
            finally:
                did.append("cancelled")

        async def close(self: RegionAgent) -> None:
            did.append("close")

        left: list[int] = []
        monkeypatch.setattr(RegionAgent, "run", run)
        monkeypatch.setattr(RegionAgent, "close", close)
        monkeypatch.setattr(os, "_exit", left.append)
        assert process.main(["--config", str(file)]) == 0
        with TestClient(served.app, headers=AUTHORIZED) as client:
            assert client.get("/status").json()["role"] == "unknown"
            assert client.get("/status", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert sorted(did) == ["cancelled", "close", "follow"]
        assert left == []

    def test_it_reports_its_activations_where_spans_are_wanted(
        self, config: AgentConfig, file: Path, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spans = tmp_path / "spans.jsonl"
        file.write_text(config.model_copy(update={"traces": Traces(file=spans)}).model_dump_json())

        async def run(self: RegionAgent) -> None:
            self.events.record("activated", seconds=0.5)
            self.events.record("sweep-finished", epoch=2, runs=0)
            await asyncio.Event().wait()

        monkeypatch.setattr(RegionAgent, "run", run)
        monkeypatch.setattr(os, "_exit", lambda code: None)
        process.main(["--config", str(file)])
        with TestClient(served.app):
            pass
        assert '"name":"activation"' in spans.read_text()

    def test_it_leaves_when_it_no_longer_follows(
        self, file: Path, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def run(self: RegionAgent) -> None:
            raise RuntimeError("broken")

        left: list[int] = []
        monkeypatch.setattr(RegionAgent, "run", run)
        monkeypatch.setattr(os, "_exit", left.append)
        process.main(["--config", str(file)])
        with TestClient(served.app) as client:
            client.get("/healthz")
        assert left == [1]


class TestObserver:
    def test_it_asks_callers_for_a_certificate(self, config: AgentConfig, tmp_path: Path, served: Served) -> None:
        path = tmp_path / "observer.json"
        path.write_text(observer_config(config, tmp_path).model_dump_json())
        assert observer.main(["--config", str(path)]) == 0
        assert served.options == {"client_certificates": True}
        assert served.given[0] == "127.0.0.1:1"

    def test_a_region_of_which_one_half_answers_is_heard(self, look: Callable[..., Observer]) -> None:
        for answering in ({"patroni-a"}, {"etcd-a"}, {"patroni-a", "etcd-a"}):
            assert look(answering, looks=10).observations().targets["a"].silent_seconds == 0

    def test_silence_and_its_end_are_told_once(self, look: Callable[..., Observer], tmp_path: Path) -> None:
        answering: set[str] = set()
        seen = look(answering, looks=10, then=lambda: answering.add("etcd-a"))
        assert seen.observations().targets["a"].silent_seconds == 0
        events = (tmp_path / "observer.jsonl").read_text().splitlines()
        assert [line.split('"event": ')[1] for line in events] == [
            '"silence-began", "of": "a"}',
            '"silence-ended", "of": "a"}',
        ]

    def test_a_restarted_observer_is_another_one(self, config: AgentConfig, tmp_path: Path) -> None:
        made = observer_config(config, tmp_path)
        assert Observer(made).boot_id != Observer(made).boot_id

    @pytest.fixture
    def look(self, config: AgentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Observer]:
        """An observer that has looked at region a so often; `then` happens half-way."""
        connect = httpx.AsyncClient

        def looked(answering: set[str], *, looks: int, then: Callable[[], object] = lambda: None) -> Observer:
            def answer(request: httpx.Request) -> httpx.Response:
                if request.url.host in answering:
                    return httpx.Response(503)
                raise httpx.ConnectError("silent")

            def client(**options: Any) -> httpx.AsyncClient:
                return connect(transport=httpx.MockTransport(answer))

            pauses = iter(range(looks))

            async def pause(seconds: float) -> None:
                left = next(pauses, None)
                if left is None:
                    raise asyncio.CancelledError
                if left == looks // 2:
                    then()

            monkeypatch.setattr(observer.httpx, "AsyncClient", client)
            monkeypatch.setattr(asyncio, "sleep", pause)
            made = Observer(observer_config(config, tmp_path))
            with pytest.raises(asyncio.CancelledError):
                asyncio.run(made.watch("a"))
            return made

        return looked


def observer_config(config: AgentConfig, directory: Path) -> ObserverConfig:
    return ObserverConfig.model_validate(
        {
            "listen": "127.0.0.1:1",
            "tls": config.tls.model_dump(),
            "targets": {"a": {"patroni": "https://patroni-a", "etcd": "https://etcd-a"}},
            "events_file": str(directory / "observer.jsonl"),
        }
    )


@pytest.mark.parametrize("module", ["region_agent", "region_agent.observer"])
@pytest.mark.filterwarnings("ignore:.* found in sys.modules:RuntimeWarning")
def test_a_process_does_not_start_without_its_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: str
) -> None:
    monkeypatch.setattr(sys, "argv", [module, "--config", "none.json"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_module(module, run_name="__main__")
    assert exit_.value.code == 2
    assert f"{module}: none.json: can't be read" in capsys.readouterr().err
