"""What the processes of one machine have in common, for a pod: `python -m region_agent.companion --config FILE`.

It carries the sidecars' ports to and from other pods, keeps a role file that says what the region agent's own says,
and has a worker and its sidecar fail together. Each is done where the configuration has it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from pydantic import ValidationError
from serving import ConfigurationFile, Tls, configuration_of, log_to_stderr, read_secret
from serving.tunnels import Tunnel, open_tunnels

from region_agent.config import Seconds, SidecarProcess
from region_agent.events import EventLog
from region_agent.pairs import Pairs
from region_agent.role import Role, RoleFile

ANSWER_SECONDS = 1.0


class RoleSource(ConfigurationFile):
    """The region agent's address, and the file that is to say the same.

    An agent that says nothing for `lost_after_seconds` makes the pod a standby: it may be cut off from its region.
    """

    region: str
    agent: str
    token_file: Path
    role_file: Path
    poll_seconds: Seconds = 0.1
    lost_after_seconds: Seconds = 10.0


class PairedProcesses(ConfigurationFile):
    """A word of the command line by which each half of the pod's pair is known."""

    sidecar: str = "daprd"
    worker: str = "service.worker"


class CompanionConfig(ConfigurationFile):
    """The companion's configuration file."""

    tls: Tls
    role: RoleSource | None = None
    tunnels: tuple[Tunnel, ...] = ()
    pair: PairedProcesses | None = None
    events_file: Path


@dataclass
class RoleMirror:
    """The region's role in this pod's file, a poll behind the agent's at most."""

    source: RoleSource
    client: httpx.AsyncClient
    events: EventLog
    _heard_at: float = field(default_factory=time.monotonic)

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self.source.poll_seconds)

    async def look(self) -> None:
        """One look; the file is written where the role or the epoch is another."""
        file = RoleFile(self.source.role_file, self.source.region)
        said, written, now = await self._ask(), file.read(), time.monotonic()
        if said is not None:
            self._heard_at = now
            if written is None or (written.role, written.epoch) != (said.role, said.epoch):
                file.write(said.role, said.epoch)
        elif written and written.role != "standby" and now - self._heard_at > self.source.lost_after_seconds:
            self.events.record("agent-lost", epoch=written.epoch)
            file.write("standby", written.epoch)

    async def _ask(self) -> Role | None:
        try:
            response = await self.client.get(f"{self.source.agent}/role")
            return Role.model_validate_json(response.content)
        except (httpx.HTTPError, ValidationError):
            return None


@dataclass(frozen=True)
class PodProcesses:
    """The processes of the pod's containers, which see each other. Kubernetes starts them, and starts them again."""

    names: PairedProcesses

    async def running(self) -> dict[str, int]:
        """The ids of the pair's halves that run, by name."""
        found: dict[str, int] = {}
        for process in psutil.process_iter(["cmdline", "status"]):
            if process.info["status"] == psutil.STATUS_ZOMBIE:
                continue
            words = {word.rpartition("/")[2] for word in process.info["cmdline"] or ()}
            for name, mark in (("sidecar", self.names.sidecar), ("worker", self.names.worker)):
                if mark in words:
                    found[name] = process.pid
        return found

    async def start(self, process: str) -> None:
        """Nothing: the kubelet does."""

    async def stop(self, process: str) -> None:
        """Nothing: nobody asks for it here."""


async def run(config: CompanionConfig) -> None:
    """Do all of it until cancelled."""
    events = EventLog(config.events_file)
    servers = await open_tunnels(config.tunnels, config.tls)
    everything: list[Coroutine[None, None, None]] = [server.serve_forever() for server in servers]
    if config.pair is not None:
        pair = SidecarProcess(process="sidecar", worker="worker", grpc_port=0, http_port=0)
        everything.append(Pairs([pair], PodProcesses(config.pair), events).watch())
    if config.role is not None:
        everything.append(_mirror(config.role, config.tls, events))
    await asyncio.gather(*everything)


async def _mirror(source: RoleSource, tls: Tls, events: EventLog) -> None:
    headers = {"Authorization": f"Bearer {read_secret(source.token_file)}"}
    async with httpx.AsyncClient(
        verify=tls.client_context(), headers=headers, timeout=ANSWER_SECONDS, trust_env=False
    ) as client:
        await RoleMirror(source, client, events).watch()


def main(arguments: list[str]) -> int:
    """Run until told to stop; what fails ends the process, which Kubernetes starts again."""
    log_to_stderr()
    config = configuration_of(CompanionConfig, "region_agent.companion", arguments)
    asyncio.run(run(config))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
