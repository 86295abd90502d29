"""Two real regions whose distance and kind of replication can be set, and which prove both before they are measured."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import httpx
from holdfast.client import HoldfastClient

from infra.automation import Deployment, DeploymentError
from infra.doors import Doors, Unanswered
from infra.manifest import Manifest
from infra.status import DeploymentStatus, observe

Replication = Literal["synchronous", "asynchronous"]
STANDBY: dict[Replication, str] = {"synchronous": "sync_standby", "asynchronous": "replica"}
"""What Patroni calls a standby that commits wait for, and one that they don't wait for."""
SETTINGS = {"agent": "loadtests.tax.agent:hosted", "max_iterations": "1000"}
SETTLE_SECONDS = 60.0
SECONDS = 5.0
UPS = 3
POLL_SECONDS = 0.1
SLACK_MS = 25.0
"""By how much a handshake may take longer than the round trip that it waits for."""


class NotInForceError(Exception):
    """What was asked of the regions did not come about: says what was awaited, and what was last seen."""


class Regions:
    """One deployment, its API and its links."""

    def __init__(self, manifest: Manifest, doors: Doors) -> None:
        self._manifest, self._doors = manifest, doors
        token = manifest.api_token_file.read_text(encoding="utf-8").strip()
        apis = {name: region.api for name, region in manifest.regions.items()}
        self.client = HoldfastClient(apis, ca=manifest.ca, token=token, timeout=30)
        self._toxiproxy = httpx.Client(base_url=manifest.wan.toxiproxy, trust_env=False, timeout=SECONDS)
        trusted = ssl.create_default_context(cafile=str(manifest.ca))
        trusted.load_cert_chain(manifest.client_cert, manifest.client_key)
        self._patroni = httpx.Client(verify=trusted, trust_env=False, timeout=SECONDS)

    def set(self, round_trip_ms: int, replication: Replication) -> float:
        """Put the regions and the witness so far apart, and let commits wait for the standby or not.

        Returns the milliseconds that a handshake over the link between the regions takes. Raises NotInForceError.
        """
        self._set_distance(round_trip_ms)
        url = f"{self._manifest.regions[self.active()].patroni}/config"
        self._patroni.patch(url, json={"synchronous_mode": replication == "synchronous"}).raise_for_status()
        self._until(f"a standby that is {replication}", lambda seen: _follows(seen, STANDBY[replication]))
        seen = self.handshake_ms()
        if not round_trip_ms <= seen <= 2 * round_trip_ms + SLACK_MS:
            raise NotInForceError(f"a handshake took {seen:.0f} ms over a link of {round_trip_ms} ms round trip")
        return seen

    def active(self) -> str:
        """The active region. Raises NotInForceError."""
        found = self._until("an active region", lambda seen: seen.active is not None).active
        assert found is not None
        return found

    def epoch(self) -> int | None:
        """The epoch of the active region."""
        return observe(self._manifest, self._doors).region(self.active()).epoch

    def handshake_ms(self) -> float:
        """The quickest of a few TLS handshakes over the link from region a to region b: one round trip, and a bit."""
        link = next(one for one in self._manifest.wan.links if one.name == "a-b.patroni")
        address = urlsplit(f"//{link.listen}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # Only time is measured: nothing is sent, and nothing that is received is used.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        found: list[float] = []
        for _ in range(5):
            with socket.create_connection((str(address.hostname), int(address.port or 0)), SECONDS) as plain:
                began = time.perf_counter()
                with context.wrap_socket(plain):
                    found.append((time.perf_counter() - began) * 1000)
        return min(found)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
        self._toxiproxy.close()
        self._patroni.close()

    def _set_distance(self, round_trip_ms: int) -> None:
        self._toxiproxy.post("/reset").raise_for_status()
        for link in self._manifest.wan.links if round_trip_ms else []:
            for stream, latency in (
                ("upstream", round_trip_ms // 2),
                ("downstream", round_trip_ms - round_trip_ms // 2),
            ):
                toxic = {
                    "name": f"far-{stream}",
                    "type": "latency",
                    "stream": stream,
                    "attributes": {"latency": latency},
                }
                self._toxiproxy.post(f"/proxies/{link.name}/toxics", json=toxic).raise_for_status()

    def _until(self, what: str, holds: Callable[[DeploymentStatus], bool]) -> DeploymentStatus:
        deadline, seen = time.monotonic() + SETTLE_SECONDS, "nothing"
        while time.monotonic() < deadline:
            with contextlib.suppress(Unanswered):
                status = observe(self._manifest, self._doors)
                if holds(status):
                    return status
                seen = ", ".join(
                    f"region {one.name} {one.role}, database {one.database.role}" for one in status.regions
                )
            time.sleep(POLL_SECONDS)
        raise NotInForceError(f"waited {SETTLE_SECONDS:g} s for {what}; last seen: {seen}")


@contextlib.contextmanager
def regions(state: Path) -> Generator[Regions]:
    """A deployment of its own, made and removed."""
    deployment = Deployment("local", SETTINGS, state)
    try:
        _up(deployment)
        manifest = Manifest.load(deployment.directory)
        with Doors(manifest, SECONDS) as doors, contextlib.closing(Regions(manifest, doors)) as made:
            yield made
    finally:
        deployment.destroy()


def _up(deployment: Deployment) -> None:
    """Bring everything up; on a machine that is too busy for that in time, again. Raises DeploymentError."""
    for _ in range(UPS - 1):
        with contextlib.suppress(DeploymentError):
            deployment.up()
            return
    deployment.up()


def _follows(status: DeploymentStatus, role: str) -> bool:
    """Whether the region that is not active streams as a standby of that kind."""
    return status.active is not None and all(
        region.database.role == role and region.database.streaming
        for region in status.regions
        if region.name != status.active
    )
