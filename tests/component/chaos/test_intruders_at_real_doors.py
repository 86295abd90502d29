"""Limits and certificates take hold of real processes, and a door that stands open is told from one that is closed."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaos import impostors as sidecars
from chaos import intruders
from chaos.faults import NotInjectedError, NotLiftedError
from chaos.faults.local import certificates
from chaos.faults.local.certificates import Certificates
from chaos.faults.local.limits import Limits
from chaos.faults.local.outside import Outside
from chaos.history import Intrusion
from infra.local.identity import Authority, KeyPair
from infra.manifest import Manifest
from tests.component.dapr_stack import kill
from tests.support.deployments import manifest

pytestmark = pytest.mark.component

HUNGRY = """
import sys
print("ready", flush=True)
for line in sys.stdin:
    try:
        open("/dev/null"); print("opened", flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""


class Server:
    """Answers every request with one status, over TLS, to whoever shows a certificate of the root if it has to."""

    def __init__(self, directory: Path, *, demands: bool) -> None:
        self.status, self.asked = 401, list[tuple[str, str, Any]]()
        self.pair = KeyPair(directory / "tls" / "node.crt", directory / "tls" / "node.key")
        self.pair.key.parent.mkdir(parents=True, exist_ok=True)
        self.authority = Authority(directory.parent / "pki")
        self.authority.leaf(self.pair, "server")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                outer.asked.append((self.command, self.path, self.headers.get("authorization")))
                epochs = self.path.endswith("limit=10000")
                content = b"[]" if epochs else body if body else b'{"lost": 1}'
                status = 200 if epochs else outer.status
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = answer

            def log_message(self, format: str, *args: Any) -> None: ...

        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.load()
        self.context.load_verify_locations(directory.parent / "pki" / "root.crt")
        self.context.verify_mode = ssl.CERT_REQUIRED if demands else ssl.CERT_NONE
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = self.context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"

    def load(self) -> None:
        self.context.load_cert_chain(self.pair.certificate, self.pair.key)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """One that asks for a token, and one that asks for a certificate."""
    (tmp_path / "pki").mkdir()
    token, certificate = Server(tmp_path / "region-a", demands=False), Server(tmp_path / "region-b", demands=True)
    yield token, certificate
    token.close()
    certificate.close()


@pytest.fixture
def place(tmp_path: Path, servers: tuple[Server, Server]) -> Manifest:
    token, certificate = servers
    described = manifest(tmp_path)
    Authority(tmp_path / "pki").leaf(KeyPair(described.client_cert, described.client_key), "client")
    (tmp_path / "secrets").mkdir()
    for secret in ("api-token", "payments-token", "control-token", "postgres-superuser"):
        (tmp_path / "secrets" / secret).write_text(secret)
    return described.model_copy(
        update={
            "regions": {
                name: region.model_copy(
                    update={
                        "api": token.url,
                        "agent": token.url,
                        "patroni": certificate.url,
                        "etcd": certificate.url,
                        "directory": tmp_path / "region-a",
                    }
                )
                for name, region in described.regions.items()
            },
            "witness": described.witness.model_copy(update={"observer": certificate.url, "etcd": certificate.url}),
            "payments": described.payments.model_copy(update={"url": token.url, "provider": token.url}),
        }
    )


def test_a_process_that_may_open_no_further_file_opens_none_until_it_is_sated(place: Manifest) -> None:
    process = subprocess.Popen([sys.executable, "-c", HUNGRY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None

    def opens() -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    try:
        assert process.stdout.readline().strip() == "ready"
        limits = Limits(place)
        struck = limits.starve({"worker-1": process.pid}, "files")
        assert struck.proven
        assert opens() == "Too many open files"
        limits.sate({"worker-1": process.pid})
        assert opens() == "opened"
    finally:
        kill(process)  # type: ignore[arg-type]
    limits.sate({"worker-1": process.pid})
    with pytest.raises(NotInjectedError, match="can't be limited"):
        limits.starve({"worker-1": process.pid}, "files")
    with pytest.raises(NotInjectedError, match="no such process runs"):
        limits.starve({}, "files")


def test_a_client_sees_an_expired_certificate_until_the_old_one_is_back(
    place: Manifest, servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SECONDS", "POLL_SECONDS"):
        monkeypatch.setattr(certificates, name, 0.1)
    server, found = servers[0], Certificates(place)
    before = server.pair.certificate.read_bytes()
    found.demand_valid("a")
    struck = found.expire("a")
    found.expire("a")
    assert not found.seen("a", struck).proven
    server.load()
    assert found.seen("a", struck).proven
    with pytest.raises(NotLiftedError, match="certificate has expired"):
        found.demand_valid("a")
    assert found.renew("a")
    assert not found.renew("a")
    server.load()
    found.demand_valid("a")
    assert server.pair.certificate.read_bytes() == before
    with pytest.raises(NotInjectedError, match="no API"):
        found.expire("w")


def test_the_services_outside_are_told_with_the_token_for_control(
    place: Manifest, servers: tuple[Server, Server]
) -> None:
    outside, server = Outside(place), servers[0]
    server.status = 200
    assert outside.control("payments", "GET", "/control/replies") == {"lost": 1}
    assert outside.control("provider", "PUT", "/control/first", {"trouble": "slow"}) == {"trouble": "slow"}
    assert server.asked[-1] == ("PUT", "/control/first", "Bearer control-token")
    server.status = 500
    with pytest.raises(NotInjectedError, match="provider was not told PUT /control/first"):
        outside.control("provider", "PUT", "/control/first")
    alone = place.model_copy(update={"payments": place.payments.model_copy(update={"provider": None})})
    with pytest.raises(NotInjectedError, match="has no provider"):
        Outside(alone).control("provider", "GET", "/control/")


def by_door(tried: list[Intrusion], word: str) -> list[Intrusion]:
    return [one for one in tried if word in one.door]


def test_closed_doors_refuse_and_an_open_one_is_seen(
    place: Manifest, servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intruders, "EFFECT_SECONDS", 0.0)
    tried = intruders.intrusions(place, "a")
    guarded = [
        one for word in ("region API: ", "ledger", "Patroni", "lease store", "control") for one in by_door(tried, word)
    ]
    assert [one for one in guarded if not one.refused] == []
    assert {one.observed for one in by_door(tried, "region API: start")} == {"401"}
    # Nobody listens where the databases and payments' epochs are: that is no refusal.
    assert not any(one.refused for one in by_door(tried, "database"))
    servers[0].status = 200
    opened = [one for one in intruders.intrusions(place, "a") if not one.refused]
    assert {"region API: start a run", "payments: an effect", "region agent: status"} <= {one.door for one in opened}


def test_a_certificate_of_the_root_opens_the_door_that_asks_for_one(place: Manifest) -> None:
    mine = intruders.Credentials("with a valid certificate", KeyPair(place.client_cert, place.client_key))
    tried = list(intruders._with_certificates(place, [mine]))
    assert {one.observed for one in tried} == {"401"}


@pytest.mark.parametrize(
    ("says", "refused"),
    [
        ("error from sentry SignCertificate: rpc error: code = PermissionDenied", True),
        ("Fetching initial identity", True),
        ("Fetching initial identity; Security is initialized successfully", False),
        ("something else", False),
    ],
)
def test_an_impostor_is_refused_only_where_sentry_says_so(
    place: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, refused: bool
) -> None:
    monkeypatch.setattr(sidecars, "SECONDS", 3.0)
    site = tmp_path / "region-a"
    told = tmp_path / "told.jsonl"
    program = f"""
import json, os, sys
with open({str(told)!r}, "a") as file:
    file.write(json.dumps([sys.argv[1:], dict(os.environ)]) + chr(10))
print({says!r})
"""
    honest = {
        "entrypoint": [sys.executable, "-c", program, "--app-id=refund-desk", "--dapr-grpc-port=1", "--mode=x"],
        "environment": ["DAPR_SENTRY_TOKEN_FILE=/honest", "DAPR_TRUST_ANCHORS=honest"],
    }
    (site / "process-compose.yaml").write_text(yaml.safe_dump({"processes": {"daprd-1": honest}}))
    region = place.regions["a"].model_copy(update={"sidecars": ["daprd-1"]})
    found = sidecars.impostors(place.model_copy(update={"regions": {"a": region}}), "a")
    assert [one.refused for one in found] == [refused] * 4
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    assert lines[0][0][0] == "--app-id=somebody-else"
    assert lines[0][0][1] != "--dapr-grpc-port=1"
    assert "DAPR_SENTRY_TOKEN_FILE" not in lines[1][1]
    assert lines[2][1]["DAPR_SENTRY_TOKEN_FILE"].endswith("scheduler.token")
    assert "BEGIN CERTIFICATE" in lines[3][1]["DAPR_TRUST_ANCHORS"]


def test_a_purge_is_refused_only_where_it_fails(
    place: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Client:
        def __init__(self, *_: object, **__: object) -> None:
            self.hub = self

        def purge(self, run_id: str, *timeout: float) -> None:
            if not timeout:
                raise ValueError(f"run {run_id} is running")

        def close(self) -> None: ...

    monkeypatch.setattr(sidecars, "AgentRunClient", Client)
    config = tmp_path / "region-a" / "config"
    config.mkdir()
    (config / "service.json").write_text('{"sidecars": [{"grpc_port": 1}]}')
    (config / "dapr-api-token").write_text("token")
    found = sidecars.purge(place, "a", "run-1")
    assert [one.refused for one in found] == [False, True, False]
    assert "run-1 is running" in found[1].observed


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another account")
def test_another_account_is_refused_only_where_the_socket_says_so(place: Manifest) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        regions = {}
        with socket.socket(socket.AF_UNIX) as closed, socket.socket(socket.AF_UNIX) as opened:
            for name, one, mode in (("a", closed, 0o755), ("b", opened, 0o777)):
                path = Path(folder) / f"{name}.sock"
                one.bind(str(path))
                one.listen()
                path.chmod(mode)
                regions[name] = place.regions[name].model_copy(update={"supervisor_socket": path})
            found = list(intruders._supervisors(place.model_copy(update={"regions": regions})))
    assert [one.refused for one in found] == [True, False]
    assert found[1].observed == "connected"
