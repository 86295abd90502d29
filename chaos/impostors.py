"""Sidecars that claim to be who they are not, and what a region's Sentry answers them.

An impostor is the region's own sidecar program with another token, root or name. It has ports of its own, and is
ended as soon as it has been refused, or has not been in time.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic_ai_dapr import AgentRunClient, WorkflowUnavailableError

from chaos.history import Intrusion
from infra.local.identity import Authority
from infra.manifest import Manifest

SECONDS = 15.0
POLL_SECONDS = 0.1
REFUSED = ("error from sentry SignCertificate", "certificate signed by unknown authority", "x509:", "PermissionDenied")
FETCHING, IDENTIFIED = "Fetching initial identity", "Security is initialized successfully"
PORTS = ("dapr-grpc-port", "dapr-http-port", "dapr-internal-grpc-port", "metrics-port")


@dataclass(frozen=True)
class Impostor:
    """What differs from the region's own sidecar: options, and environment; None is left out."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    environment: Mapping[str, str | None] = field(default_factory=dict[str, str | None])


def impostors(manifest: Manifest, region: str) -> list[Intrusion]:
    """Each is started once in that region."""
    site = manifest.regions[region].directory
    supervised = yaml.safe_load((site / "process-compose.yaml").read_text(encoding="utf-8"))
    honest = supervised["processes"][manifest.regions[region].sidecars[0]]
    with tempfile.TemporaryDirectory(prefix="holdfast-impostor-") as place:
        other = Authority(Path(place)).root.decode()
        every = (
            Impostor("a sidecar that claims another app-id", {"app-id": "somebody-else"}),
            Impostor("a sidecar without a token", {}, {"DAPR_SENTRY_TOKEN_FILE": None}),
            Impostor(
                "a sidecar with the scheduler's token",
                {},
                {"DAPR_SENTRY_TOKEN_FILE": str(site / "config" / "scheduler.token")},
            ),
            Impostor("a sidecar with another root", {}, {"DAPR_TRUST_ANCHORS": other}),
        )
        return [_tried(one, honest["entrypoint"], honest["environment"], f"Sentry of region {region}") for one in every]


def purge(manifest: Manifest, region: str, run_id: str) -> list[Intrusion]:
    """Remove a run that has not ended: by the library, and by asking the sidecar itself."""
    site = manifest.regions[region].directory
    config = yaml.safe_load((site / "config" / "service.json").read_text(encoding="utf-8"))
    token = (site / "config" / "dapr-api-token").read_text(encoding="utf-8").strip()
    port = config["sidecars"][0]["grpc_port"]
    door = f"sidecar of region {region}"
    with_token, without = (
        AgentRunClient("refund-desk", host="127.0.0.1", port=port, api_token=secret) for secret in (token, "")
    )
    try:
        return [
            _purged("by the sidecar, without its token", door, lambda: without.hub.purge(run_id, 5.0)),
            _purged("by the library", door, lambda: with_token.purge(run_id)),
            _purged("by the sidecar", door, lambda: with_token.hub.purge(run_id, 5.0)),
        ]
    finally:
        with_token.close()
        without.close()


def _purged(how: str, door: str, act: Callable[[], None]) -> Intrusion:
    try:
        act()
        told, refused = "it was purged", False
    except (ValueError, WorkflowUnavailableError) as error:
        told, refused = f"{type(error).__name__}: {error}", True
    name = f"purge of a live run {how}"
    return Intrusion(name=name, door=door, expected="an error", observed=told[:300], refused=refused)


def _tried(one: Impostor, entrypoint: Sequence[str], environment: Sequence[str], door: str) -> Intrusion:
    options = {**one.options, **{name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}}
    command = [changed(argument, options) for argument in entrypoint]
    known = dict(line.split("=", 1) for line in environment) | {"PATH": os.environ.get("PATH", "")}
    shown = {name: value for name, value in (known | dict(one.environment)).items() if value is not None}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=shown, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            deadline, said = time.monotonic() + SECONDS, ""
            while time.monotonic() < deadline:
                said = _read(log.fileno())
                if IDENTIFIED in said or any(word in said for word in REFUSED) or process.poll() is not None:
                    break
                time.sleep(POLL_SECONDS)
        finally:
            process.kill()
            process.wait(10)
        said = _read(log.fileno())
    line = next((line for line in said.splitlines() if any(word in line for word in REFUSED)), "")
    told = line or f"no word of Sentry within {SECONDS:g} s: {said[-300:]}"
    # Who trusts another root does not listen to Sentry at all, and goes on asking.
    refused = bool(line) or (FETCHING in said and IDENTIFIED not in said)
    return Intrusion(name=one.name, door=door, expected="no identity", observed=told[-400:], refused=refused)


def changed(argument: str, options: Mapping[str, str]) -> str:
    """An argument of a sidecar's command line, with the option's other value where it has one."""
    name = argument.removeprefix("--").partition("=")[0]
    return f"--{name}={options[name]}" if name in options else argument


def _read(descriptor: int) -> str:
    return os.pread(descriptor, 1_000_000, 0).decode(errors="replace")


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface at which nobody listens."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
