"""Locust itself, with the repository's users, against two regions that are only played, over TLS."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra.local.identity import Authority, KeyPair
from infra.state import MANIFEST, project_root
from loadtests.traffic import locusts
from loadtests.traffic.entries import Entry
from loadtests.traffic.locusts import Load, Loaded, NotLoadedError, run_load
from tests.component.dapr_stack import free_ports, kill, until
from tests.support.deployments import manifest

pytestmark = pytest.mark.component
TOKEN = "a-token-that-no-command-line-shows"
RUN_SECONDS = 0.3


@dataclass
class World:
    """Both regions' runs; region a is active until `moves_at`, when b is."""

    state: Path
    moves_at: float = float("inf")
    started: dict[str, float] = field(default_factory=dict[str, float])
    held: set[str] = field(default_factory=set[str])
    approved: dict[str, float] = field(default_factory=dict[str, float])
    unauthorized: int = 0

    @property
    def active(self) -> str:
        return "a" if time.time() < self.moves_at else "b"

    def view(self, run_id: str) -> dict[str, Any]:
        begun = self.approved.get(run_id, time.time()) if run_id in self.held else self.started[run_id]
        ended = time.time() - begun > RUN_SECONDS
        updated = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(begun + RUN_SECONDS))
        status = "completed" if ended else "running"
        return {"run_id": run_id, "status": status, "accepted_at": updated, "updated_at": updated}


def handler(world: World, region: str) -> type[BaseHTTPRequestHandler]:
    class Region(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, active = self.path.partition("?")[0], world.active == region
            if path == "/v1/role":
                self._say(200, {"role": "active" if active else "standby"})
            elif not active:
                self._say(503, {"detail": "standby"})
            elif path == "/v1/runs":
                views = [world.view(run) for run in list(world.started)]
                self._say(200, {"runs": [one for one in views if one["status"] == "running"]})
            elif path.endswith("/approvals"):
                waits = path.split("/")[3] not in world.approved
                self._say(200, [{"tool_call_id": "c", "tool": "await_supervisor"}] if waits else [])
            else:
                self._say(200, world.view(path.split("/")[3]))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if world.active != region:
                self._say(503, {"detail": "standby"})
            elif self.path == "/v1/runs":
                if "hold_seconds" in body["input"]:
                    world.held.add(body["run_id"])
                world.started.setdefault(body["run_id"], time.time())
                self._say(202, {})
            else:
                world.approved.setdefault(self.path.split("/")[3], time.time())
                self._say(202, {})

        def _say(self, status: int, body: object) -> None:
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                world.unauthorized += 1
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    return Region


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    place = tmp_path / "local"
    (place / "pki").mkdir(parents=True)
    authority = Authority(place / "pki")
    pair = KeyPair(place / "pki" / "region.crt", place / "pki" / "region.key")
    authority.leaf(pair, "region")
    (place / "secrets").mkdir()
    (place / "secrets" / "api-token").write_text(TOKEN + "\n")
    made, servers = World(tmp_path), list[ThreadingHTTPServer]()
    described = manifest(place).model_dump(mode="json")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    for name in ("a", "b"):
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler(made, name))
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        described["regions"][name]["api"] = f"https://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
    (place / MANIFEST).write_text(json.dumps(described))
    yield made
    for server in servers:
        server.shutdown()
        server.server_close()


def loaded(world: World, load: Load) -> Loaded:
    return run_load(load, world.state / "load", "local", world.state, lambda *_: None)


def of(found: Loaded, name: str) -> list[Entry]:
    return [entry for entry in found.entries if entry.name == name]


def test_every_run_is_started_at_its_rate_followed_and_where_it_waits_approved(world: World) -> None:
    found = loaded(world, Load("steady", 3.0, 5.0, 1.0))
    starts, ends = of(found, "start"), of(found, "complete")
    assert 12 <= len(starts) <= 24
    assert {entry.run_id for entry in ends} == {entry.run_id for entry in starts} == set(world.started)
    assert {entry.error for entry in found.entries} == {None}
    assert len(of(found, "approve")) == len(world.held) == len(starts) // 10
    assert len(of(found, "list")) == len(of(found, "freshness")) >= 3
    assert max(entry.seconds for entry in ends) < RUN_SECONDS + 1.0
    assert world.unauthorized == 0
    assert TOKEN not in (world.state / "load" / "locust.log").read_text()


def test_clients_go_to_the_other_region_when_it_becomes_active(world: World) -> None:
    world.moves_at = time.time() + 5
    found = loaded(world, Load("steady", 3.0, 6.0, 0.0))
    assert {entry.region for entry in of(found, "start")} == {"a", "b"}
    assert {entry.error for entry in found.entries if entry.name != "retry"} == {None}
    assert {entry.error for entry in of(found, "retry")} <= {"503"}
    assert {entry.run_id for entry in of(found, "complete")} == set(world.started)


def test_a_herd_is_held_until_half_time(world: World) -> None:
    found = loaded(world, Load("herd", 2.0, 8.0, 0.0))
    first = min(entry.at for entry in of(found, "list"))
    assert {entry.run_id for entry in of(found, "approve")} == set(world.started) == world.held
    assert min(entry.at for entry in of(found, "approve")) >= first + 3
    assert max(entry.at for entry in of(found, "start")) <= first + 5.5


def test_where_nothing_is_deployed_locust_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotLoadedError, match="start with `holdfast up`"):
        run_load(Load("steady", 1.0, 5.0, 0.0), tmp_path / "load", "local", tmp_path, lambda *_: None)


def test_locust_does_not_outlive_an_interrupt(world: World) -> None:
    def interrupted(at: float, entries: object) -> None:
        if entries:
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_load(Load("steady", 3.0, 600.0, 0.0), world.state / "load", "local", world.state, interrupted)
    assert time.monotonic() - began < 30


def test_locust_does_not_outlive_its_owner(world: World) -> None:
    program = (
        "import sys; from pathlib import Path; from loadtests.traffic.locusts import Load, run_load;"
        "place = Path(sys.argv[1]);"
        "run_load(Load('steady', 3.0, 600.0, 0.0), place / 'load', 'local', place, lambda *_: None)"
    )
    owner = subprocess.Popen([sys.executable, "-c", program, str(world.state)], cwd=project_root())
    until("runs", lambda: len(world.started) > 3, 60)
    kill(owner)

    def ended() -> bool:
        return "Shutting down" in (world.state / "load" / "locust.log").read_text()

    until("Locust's end", ended, 30)


def test_a_load_that_takes_too_long_is_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locusts, "BESIDES_SECONDS", -locusts.GIVE_UP_SECONDS - 4)
    with pytest.raises(NotLoadedError, match="had not ended"):
        loaded(world, Load("steady", 1.0, 5.0, 0.0))


def test_the_page_of_locust_shows_the_regions_and_starts_a_load(world: World) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py"]
    command += ["--web-host", "127.0.0.1", "--web-port", str(port)]
    environment = {"HOLDFAST_STATE": str(world.state), "PATH": "", "HOME": str(world.state)}
    with (world.state / "locust.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=project_root(), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"

    def asked(path: str, data: bytes | None = None) -> str:
        try:
            with urllib.request.urlopen(f"{url}{path}", data, timeout=5) as answer:  # noqa: S310
                return answer.read().decode()
        except OSError:
            return ""

    try:
        until("the page", lambda: asked("/"))
        page = asked("/")
        assert '"steady", "ramp", "burst", "herd"' in page.replace("&#34;", '"')
        assert TOKEN not in page
        swarm = b"user_count=20&spawn_rate=1&run_time=30s&shape=steady&host=x"
        assert json.loads(asked("/swarm", swarm))["success"] is True
        until("runs", lambda: {"start", "complete"} <= {one["name"] for one in _stats(asked("/stats/requests"))})
        assert json.loads(asked("/stop", b""))["success"] is True
    finally:
        kill(process)


def _stats(text: str) -> list[dict[str, Any]]:
    return json.loads(text)["stats"] if text else []
