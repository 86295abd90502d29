"""The witness's second opinion: `python -m region_agent.observer --config FILE`.

It looks at both regions through its own WAN links, and tells callers with a certificate how long each has been silent.
It decides nothing.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI
from serving import ConfigurationFile, Listen, Tls, configuration_of, log_to_stderr, serve

from region_agent.events import EventLog
from region_agent.patroni import answers
from region_agent.peer import CALM_SECONDS, SUSPICIOUS_SECONDS, Observations, Sighting
from region_agent.silence import Silence


class Target(ConfigurationFile):
    """One region as the witness reaches it."""

    patroni: str
    etcd: str


class ObserverConfig(ConfigurationFile):
    """The observer's configuration file."""

    listen: Listen
    tls: Tls
    targets: dict[str, Target]
    interval_seconds: float = CALM_SECONDS
    timeout_seconds: float = 0.5
    events_file: Path


class Observer:
    """Looks at each region without end, and remembers since when it has been silent."""

    def __init__(self, config: ObserverConfig) -> None:
        self.boot_id = uuid.uuid4().hex
        self._config, self._events = config, EventLog(config.events_file)
        self._silence = {name: Silence() for name in config.targets}

    async def watch(self, name: str) -> None:
        """Look at one region until cancelled."""
        target, silence = self._config.targets[name], self._silence[name]
        timeout, verify = self._config.timeout_seconds, self._config.tls.client_context()
        async with httpx.AsyncClient(verify=verify, timeout=timeout, trust_env=False) as client:
            while True:
                heard = await asyncio.gather(
                    answers(client, f"{target.patroni}/liveness"), answers(client, f"{target.etcd}/health")
                )
                before = silence.since
                silence.observe(any(heard), time.monotonic())
                if (before is None) != (silence.since is None):
                    self._events.record("silence-began" if before is None else "silence-ended", of=name)
                await asyncio.sleep(CALM_SECONDS if silence.since is None else SUSPICIOUS_SECONDS)

    def observations(self) -> Observations:
        """What is known at this moment."""
        now = time.monotonic()
        seen = {name: Sighting(silent_seconds=silence.seconds(now)) for name, silence in self._silence.items()}
        return Observations(boot_id=self.boot_id, targets=seen)


def build_app(observer: Observer, targets: list[str]) -> FastAPI:
    """The observer's interface; it looks while it serves."""

    @asynccontextmanager
    async def looking(_: FastAPI) -> AsyncGenerator[None]:
        looks = [asyncio.create_task(observer.watch(name)) for name in targets]
        yield
        for look in looks:
            look.cancel()

    app = FastAPI(title="Observer", docs_url=None, redoc_url=None, openapi_url=None, lifespan=looking)

    @app.get("/observations")
    async def observations() -> Observations:  # pyright: ignore[reportUnusedFunction]
        return observer.observations()

    return app


def main(arguments: list[str]) -> int:
    """Look and serve until told to stop."""
    log_to_stderr()
    config = configuration_of(ObserverConfig, "region_agent.observer", arguments)
    serve(build_app(Observer(config), list(config.targets)), config.listen, config.tls, client_certificates=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
