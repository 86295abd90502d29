"""The simulated providers as a process of their own: what becomes of an answer that breaks off or doesn't come."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from openai import DefaultAsyncHttpxClient
from pydantic_ai.exceptions import FallbackExceptionGroup
from pydantic_ai_dapr.errors import to_value
from refund_desk import Decision, hosted, oracle
from refund_desk.agent import build_agent
from refund_desk.effects import MemoryEffects
from refund_desk.model import PROVIDED, provided_model, resolve_model
from refund_desk.ticket import Ticket
from refund_desk.tickets import bundled_tickets, read_tickets

from infra.local.identity import Authority, KeyPair
from tests.component.dapr_stack import free_ports, kill, until

pytestmark = pytest.mark.component

TOKEN, CONTROL = "the-key", "the-control-token"
TICKET = read_tickets(bundled_tickets()).tickets[0]


@dataclass
class Providers:
    """The service, as a worker's configuration names it, and how a test controls it."""

    directory: Path
    url: str

    @property
    def ca(self) -> Path:
        return self.directory / "root.crt"

    @property
    def token_file(self) -> Path:
        return self.directory / "token"

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    def become(self, trouble: str, **more: object) -> None:
        for name in ("first", "second"):
            self._control("PUT", name, {"trouble": trouble, **more})

    def lift(self) -> None:
        for name in ("first", "second"):
            self._control("DELETE", name, None)

    def _control(self, method: str, name: str, body: object) -> None:
        with httpx.Client(verify=self.trust, headers={"Authorization": f"Bearer {CONTROL}"}, trust_env=False) as client:
            client.request(method, f"{self.url}/control/{name}", json=body).raise_for_status()


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Providers]:
    directory = tmp_path_factory.mktemp("provider")
    pair = KeyPair(directory / "service.crt", directory / "service.key")
    Authority(directory).leaf(pair, "provider")
    (port,) = free_ports(1)
    providers = Providers(directory, f"https://127.0.0.1:{port}")
    for name, secret in (("token", TOKEN), ("control-token", CONTROL)):
        (directory / name).write_text(secret + "\n")
    config = {
        "listen": f"127.0.0.1:{port}",
        "tls": {"ca": str(providers.ca), "cert": str(pair.certificate), "key": str(pair.key)},
        "token_file": str(providers.token_file),
        "control_token_file": str(directory / "control-token"),
    }
    (directory / "provider.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "refund_desk.provider", "--config", str(directory / "provider.json")]
    with (directory / "provider.log").open("wb") as log:
        service = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def healthy() -> bool:
        assert service.poll() is None, (directory / "provider.log").read_text()
        try:
            return httpx.get(f"{providers.url}/healthz", verify=providers.trust, trust_env=False, timeout=2).is_success
        except httpx.TransportError:
            return False

    until("the providers' health", healthy)
    yield providers
    kill(service)


@pytest.fixture
def providers(process: Providers) -> Iterator[Providers]:
    yield process
    process.lift()


def test_the_desk_decides_over_the_network_what_the_oracle_decides(providers: Providers) -> None:
    async def run(ticket: Ticket) -> Decision:
        agent = build_agent(resolve_model(PROVIDED, 0.0, providers), MemoryEffects())
        return (await agent.run(hosted.prompt(ticket), deps=hosted.deps(ticket))).output

    assert asyncio.run(run(TICKET)) == asyncio.run(oracle.decide(TICKET))


@pytest.mark.parametrize(("trouble", "more"), [("cut", {}), ("hanging", {"seconds": 60}), ("slow", {"seconds": 60})])
def test_an_answer_that_breaks_off_or_does_not_come_fails_in_time_and_may_pass(
    providers: Providers, trouble: str, more: dict[str, object]
) -> None:
    async def run() -> None:
        async with DefaultAsyncHttpxClient(verify=providers.trust, timeout=1.0, trust_env=False) as http:
            agent = build_agent(provided_model(http, providers.url, TOKEN), MemoryEffects())
            await agent.run(hosted.prompt(TICKET), deps=hosted.deps(TICKET))

    providers.become(trouble, **more)
    began = time.monotonic()
    with pytest.raises(FallbackExceptionGroup) as raised:
        asyncio.run(run())
    assert time.monotonic() - began < 10
    assert to_value(raised.value).retryable
