"""The payments service as a process of its own: over TLS, for holders of the token, and with a ledger that lasts."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from infra.local.identity import Authority, KeyPair
from tests.component.dapr_stack import free_ports, kill, until

pytestmark = pytest.mark.component

TOKEN, CONTROL = "payments-token", "control-token"
CALLER = {
    "Idempotency-Key": "run-1:7",
    "Holdfast-Run": "run-1",
    "Holdfast-Region": "a",
    "Holdfast-Epoch": "3",
    "Holdfast-Worker": "worker-1",
    "Holdfast-Attempt": "1",
}
REFUND = {"ticket_id": "T-1", "order_id": "ORD-1", "amount": "10.00", "currency": "EUR"}


@dataclass
class Payments:
    """The service's process, which can be killed and started again over the same files."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.directory / "root.crt"))

    def start(self) -> None:
        command = [sys.executable, "-m", "refund_desk.payments", "--config", str(self.directory / "payments.json")]
        with (self.directory / "payments.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until("the service's health", self._healthy)

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return httpx.Client(base_url=self.url, verify=self.trust, headers=headers, trust_env=False, timeout=20)

    def log(self) -> str:
        return (self.directory / "payments.log").read_text(encoding="utf-8")

    def _healthy(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            return httpx.get(f"{self.url}/healthz", verify=self.trust, trust_env=False, timeout=2).is_success
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def payments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Payments]:
    directory = tmp_path_factory.mktemp("payments")
    pair = KeyPair(directory / "service.crt", directory / "service.key")
    Authority(directory).leaf(pair, "payments")
    (directory / "token").write_text(TOKEN + "\n")
    (directory / "control-token").write_text(CONTROL + "\n")
    made = Payments(directory, free_ports(1)[0])
    config = {
        "listen": f"127.0.0.1:{made.port}",
        "tls": {"ca": str(directory / "root.crt"), "cert": str(pair.certificate), "key": str(pair.key)},
        "token_file": str(directory / "token"),
        "control_token_file": str(directory / "control-token"),
        "ledger": str(directory / "data" / "ledger.sqlite"),
    }
    (directory / "payments.json").write_text(json.dumps(config))
    made.start()
    yield made
    assert made.process is not None
    kill(made.process)


@pytest.fixture
def client(payments: Payments) -> Iterator[httpx.Client]:
    with payments.client() as client:
        yield client


@pytest.fixture
def caller(request: pytest.FixtureRequest) -> dict[str, str]:
    """A caller with a key that no other test has used."""
    return CALLER | {"Idempotency-Key": f"{request.node.originalname}:1"}


def recorded(client: httpx.Client, caller: dict[str, str]) -> list[str]:
    """What became of each attempt under the caller's key."""
    entries = client.get("/ledger?limit=10000").json()
    return [entry["outcome"] for entry in entries if entry["key"] == caller["Idempotency-Key"]]


def problem(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()["detail"]


def test_the_same_key_twice_is_applied_once(client: httpx.Client, caller: dict[str, str]) -> None:
    first = client.post("/refunds", json=REFUND, headers=caller)
    again = client.post("/refunds", json=REFUND, headers=caller | {"Holdfast-Attempt": "2"})
    assert (first.json()["outcome"], again.json()["outcome"]) == ("applied", "duplicate")
    assert first.json()["result"] == again.json()["result"]
    assert recorded(client, caller) == ["applied", "duplicate"]


def test_of_attempts_at_once_one_is_applied(payments: Payments, client: httpx.Client, caller: dict[str, str]) -> None:
    together, got = threading.Barrier(6), list[str]()

    def attempt(number: int) -> None:
        with payments.client() as mine:
            together.wait(timeout=20)
            headers = caller | {"Holdfast-Worker": f"worker-{number}"}
            got.append(mine.post("/refunds", json=REFUND, headers=headers).text)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert Counter(json.loads(one)["outcome"] for one in got) == {"applied": 1, "duplicate": 5}
    assert len({json.dumps(json.loads(one)["result"]) for one in got}) == 1
    assert Counter(recorded(client, caller)) == {"applied": 1, "duplicate": 5}


def test_a_ledger_survives_a_service_that_is_killed(payments: Payments, caller: dict[str, str]) -> None:
    fenced = caller | {"Idempotency-Key": caller["Idempotency-Key"] + "-fenced", "Holdfast-Epoch": "2"}
    with payments.client() as client:
        first = client.post("/refunds", json=REFUND, headers=caller)
    assert payments.process is not None
    kill(payments.process)
    payments.start()
    with payments.client() as client:
        again = client.post("/refunds", json=REFUND, headers=caller)
        assert (again.json()["outcome"], again.json()["result"]) == ("duplicate", first.json()["result"])
        assert recorded(client, caller) == ["applied", "duplicate"]
        assert "epoch 2 is over" in problem(client.post("/refunds", json=REFUND, headers=fenced), 409)


def test_every_effect_that_was_answered_before_a_kill_is_in_the_ledger(payments: Payments) -> None:
    answered: list[str] = []

    def apply_until_it_dies() -> None:
        with payments.client() as client:
            for number in range(100_000):
                key = f"killed:{number}"
                try:
                    response = client.post("/notes", json={"text": "x"}, headers=CALLER | {"Idempotency-Key": key})
                except httpx.TransportError:
                    return
                assert response.json()["outcome"] == "applied"
                answered.append(key)

    thread = threading.Thread(target=apply_until_it_dies)
    thread.start()
    until("some effects", lambda: len(answered) >= 20)
    assert payments.process is not None
    kill(payments.process)
    thread.join(timeout=30)
    payments.start()
    with payments.client() as client:
        entries = client.get("/ledger?limit=10000").json()
    kept = [entry["key"] for entry in entries if entry["key"].startswith("killed:")]
    assert kept[: len(answered)] == answered
    # At most the one that was applied and not answered.
    assert len(kept) <= len(answered) + 1


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}"])
def test_without_the_token_nothing_is_told_nor_recorded(
    payments: Payments, client: httpx.Client, caller: dict[str, str], authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    with httpx.Client(base_url=payments.url, verify=payments.trust, headers=headers, trust_env=False) as stranger:
        for response in (stranger.post("/refunds", json=REFUND, headers=caller), stranger.get("/ledger")):
            problem(response, 401)
            assert TOKEN not in response.text
    assert recorded(client, caller) == []


def test_a_body_of_ten_megabytes_is_refused_and_the_service_goes_on(
    payments: Payments, client: httpx.Client, caller: dict[str, str]
) -> None:
    with payments.client() as sender:
        said = f'{{"text": "{"x" * 10_000_000}"}}'.encode()
        assert "64000 bytes" in refused_for_size(sender, said, caller)
    with payments.client() as sender:
        assert "64000 bytes" in refused_for_size(sender, iter([b" " * 10_000] * 1000), caller)
    assert recorded(client, caller) == []
    assert client.post("/refunds", json=REFUND, headers=caller).json()["outcome"] == "applied"


def refused_for_size(client: httpx.Client, content: bytes | Iterator[bytes], caller: dict[str, str]) -> str:
    return problem(client.post("/notes", content=content, headers=caller | {"Content-Type": "application/json"}), 413)


@pytest.mark.parametrize("body", ["", "{", "[1]", "nul", "\x00", '{"a":' * 10_000])
def test_malformed_json_is_refused_and_nothing_is_recorded(
    client: httpx.Client, caller: dict[str, str], body: str
) -> None:
    response = client.post("/notes", content=body.encode(), headers=caller | {"Content-Type": "application/json"})
    assert response.status_code in (400, 422), response.text
    problem(response, response.status_code)
    assert recorded(client, caller) == []


def test_a_caller_that_does_not_trust_the_root_does_not_connect(payments: Payments) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{payments.url}/healthz", trust_env=False)


def test_nothing_is_said_without_tls(payments: Payments) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(payments.url.replace("https", "http") + "/healthz", trust_env=False)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_a_caller_that_speaks_only_an_old_tls_is_refused(payments: Payments) -> None:
    old = payments.trust
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    refused = pytest.raises(ssl.SSLError, match=r"EOF|ALERT_PROTOCOL_VERSION")
    with socket.create_connection(("127.0.0.1", payments.port), timeout=10) as plain, refused:
        old.wrap_socket(plain, server_hostname="localhost")


def test_no_secret_is_in_the_log(payments: Payments) -> None:
    assert TOKEN not in payments.log()


def test_it_stops_when_it_is_told_to_and_starts_again(payments: Payments) -> None:
    assert payments.process is not None
    payments.process.send_signal(signal.SIGTERM)
    assert payments.process.wait(10) in (0, -signal.SIGTERM)
    payments.start()


def test_a_configuration_that_it_does_not_understand_is_named(payments: Payments, tmp_path: Path) -> None:
    wrong = tmp_path / "payments.json"
    wrong.write_text(json.dumps({"listen": "8443", "token": "x"}))
    command = [sys.executable, "-m", "refund_desk.payments", "--config", str(wrong)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 2
    assert f"refund_desk.payments: {wrong}: listen: " in answer.stderr
    assert "token: Extra inputs are not permitted" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_lost_reply_is_a_broken_connection_and_the_effect_is_applied(payments: Payments) -> None:
    control = {"Authorization": f"Bearer {CONTROL}"}
    headers = CALLER | {"Idempotency-Key": "run-lost:1", "Holdfast-Run": "run-lost", "Holdfast-Epoch": "9"}
    with payments.client() as client:
        assert client.put("/control/replies", json={"to_lose": 1}, headers=control).is_success
        with pytest.raises(httpx.RemoteProtocolError):
            client.post("/refunds", json=REFUND, headers=headers)
        assert client.post("/refunds", json=REFUND, headers=headers).json()["outcome"] == "duplicate"
        assert client.get("/control/replies", headers=control).json()["lost"] == 1
