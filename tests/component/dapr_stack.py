"""One region's Dapr on free ports, without mTLS: placement, scheduler and sidecars over SQLite, for component tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from infra.toolchain import require

API_TOKEN = "component-test-token"
READY_SECONDS = 30.0
APP_ID = "agents"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def until(what: str, condition: Callable[[], object], seconds: float = READY_SECONDS, every: float = 0.05) -> None:
    """Return once `condition` holds; fail after `seconds`, saying what was awaited and what was last seen."""
    deadline, seen = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        seen = condition()
        if seen:
            return
        time.sleep(every)
    raise AssertionError(f"{what} did not happen within {seconds:g} s; last seen: {seen!r}")


@dataclass
class Sidecar:
    """A running daprd."""

    grpc_port: int
    http_port: int
    process: subprocess.Popen[bytes]
    app_id: str = APP_ID


@dataclass
class DaprStack:
    """Processes that this object started, and ends."""

    directory: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    sidecars: list[Sidecar] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)

    def spawn(self, name: str, command: list[str], **environment: str) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=os.environ | environment,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def start_control_plane(self) -> None:
        names = ("placement", "placement_raft", "placement_health", "placement_metrics")
        self.ports |= dict(zip(names, free_ports(4), strict=True))
        p = self.ports
        self.spawn(
            "placement",
            [
                str(require(["placement"])["placement"]),
                f"--port={p['placement']}",
                f"--healthz-port={p['placement_health']}",
                f"--metrics-port={p['placement_metrics']}",
                f"--initial-cluster=dapr-placement-0=127.0.0.1:{p['placement_raft']}",
                "--listen-address=127.0.0.1",
                "--log-level=warn",
            ],
        )
        self.start_scheduler()

    def start_scheduler(self) -> None:
        names = ("scheduler", "scheduler_health", "scheduler_metrics", "scheduler_etcd", "scheduler_peer")
        for name, port in zip(names, free_ports(5), strict=True):
            self.ports.setdefault(name, port)
        p = self.ports
        self.spawn(
            "scheduler",
            [
                str(require(["scheduler"])["scheduler"]),
                f"--port={p['scheduler']}",
                f"--healthz-port={p['scheduler_health']}",
                f"--metrics-port={p['scheduler_metrics']}",
                f"--etcd-client-port={p['scheduler_etcd']}",
                f"--etcd-initial-cluster=dapr-scheduler-server-0=http://localhost:{p['scheduler_peer']}",
                f"--etcd-data-dir={self.directory / 'scheduler'}",
                "--listen-address=127.0.0.1",
                f"--override-broadcast-host-port=127.0.0.1:{p['scheduler']}",
                "--log-level=warn",
            ],
        )
        until("the scheduler's health", lambda: http_ok(f"http://127.0.0.1:{p['scheduler_health']}/healthz"))

    def wipe_scheduler(self) -> None:
        """Every reminder is lost."""
        self.end("scheduler")
        shutil.rmtree(self.directory / "scheduler")
        self.start_scheduler()

    def start_sidecar(self, app_id: str = APP_ID) -> Sidecar:
        grpc, http, internal, metrics = free_ports(4)
        resources = self.directory / "resources"
        resources.mkdir(exist_ok=True)
        (resources / "state.yaml").write_text(
            "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: state}\n"
            "spec:\n  type: state.sqlite\n  version: v1\n  metadata:\n"
            f"  - {{name: connectionString, value: '{self.directory}/state.db'}}\n"
            "  - {name: actorStateStore, value: 'true'}\n"
        )
        config = self.directory / "config.yaml"
        config.write_text(
            "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: config}\nspec:\n"
            "  nameResolution: {component: sqlite, version: v1, configuration: "
            f"{{connectionString: '{self.directory}/names.db'}}}}\n"
        )
        process = self.spawn(
            f"daprd-{len(self.sidecars)}",
            [
                str(require(["daprd"])["daprd"]),
                f"--app-id={app_id}",
                f"--dapr-grpc-port={grpc}",
                f"--dapr-http-port={http}",
                f"--dapr-internal-grpc-port={internal}",
                f"--metrics-port={metrics}",
                f"--placement-host-address=127.0.0.1:{self.ports['placement']}",
                f"--scheduler-host-address=127.0.0.1:{self.ports['scheduler']}",
                f"--resources-path={resources}",
                f"--config={config}",
                "--dapr-listen-addresses=127.0.0.1",
                "--log-level=warn",
            ],
            DAPR_API_TOKEN=API_TOKEN,
            NAMESPACE="default",
        )
        sidecar = Sidecar(grpc, http, process, app_id)
        self.sidecars.append(sidecar)
        until("the sidecar's port", lambda: _answers(http))
        return sidecar

    def end(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait(10)

    def close(self) -> None:
        for name in list(self.processes):
            self.end(name)


@contextmanager
def dapr_stack(directory: Path) -> Iterator[DaprStack]:
    """A control plane and one sidecar, ended at the end."""
    stack = DaprStack(directory)
    try:
        stack.start_control_plane()
        stack.start_sidecar()
        yield stack
    finally:
        stack.close()


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL, and wait."""
    process.send_signal(signal.SIGKILL)
    process.wait(10)


def read_lines(path: Path) -> list[dict[str, object]]:
    """The JSON objects of a file, none where it does not exist yet."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def http_ok(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):  # noqa: S310  # a loopback address made here
            return True
    except (urllib.error.URLError, OSError):
        return False
