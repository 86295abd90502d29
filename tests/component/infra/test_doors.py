"""The doors of a deployment open to its own certificates alone, and say why nobody answered."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra.doors import Doors, Unanswered
from infra.local.identity import Authority, KeyPair
from infra.manifest import Manifest
from tests.support.deployments import manifest

pytestmark = pytest.mark.component


class Answers:
    """What the server says on each path, and what it was asked."""

    def __init__(self) -> None:
        self.paths: dict[str, tuple[int, bytes]] = {}
        self.asked: list[tuple[str, str, str | None, bytes]] = []


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def served(tmp_path: Path, answers: Answers) -> Iterator[Manifest]:
    """A deployment all of whose doors lead to one server."""
    described = manifest(tmp_path)
    for name in ("pki", "other"):
        (tmp_path / name).mkdir()
    authority = Authority(tmp_path / "pki")
    authority.leaf(KeyPair(described.client_cert, described.client_key), "client")
    server_pair = KeyPair(tmp_path / "pki" / "server.crt", tmp_path / "pki" / "server.key")
    authority.leaf(server_pair, "server")
    described.api_token_file.parent.mkdir()
    described.api_token_file.write_text("t0ken\n")

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            answers.asked.append((self.command, self.path, self.headers.get("authorization"), body))
            status, content = answers.paths.get(self.path, (404, b""))
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer

        def log_message(self, format: str, *args: Any) -> None: ...

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_pair.certificate, server_pair.key)
    context.load_verify_locations(described.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://127.0.0.1:{server.server_address[1]}"
        regions = {
            name: region.model_copy(update={"agent": url, "patroni": url}) for name, region in described.regions.items()
        }
        yield described.model_copy(update={"regions": regions})
        server.shutdown()


def test_the_agent_is_asked_with_the_token_and_patroni_without(served: Manifest, answers: Answers) -> None:
    answers.paths = {
        "/status": (200, b'{"role": "active"}'),
        "/patroni": (503, b'{"state": "starting"}'),
        "/cluster": (200, b'{"members": []}'),
    }
    with Doors(served) as doors:
        assert doors.agent_status("a") == {"role": "active"}
        assert doors.patroni("b") == {"state": "starting"}
        assert doors.cluster("b") == {"members": []}

    tokens = {path: token for _, path, token, _ in answers.asked}
    assert tokens == {"/status": "Bearer t0ken", "/patroni": None, "/cluster": None}


def test_a_switchover_is_asked_for_with_both_names(served: Manifest, answers: Answers) -> None:
    answers.paths["/switchover"] = (200, b'Successfully switched over to "b"\n')
    with Doors(served) as doors:
        assert doors.switch_over("a", "a", "b", 5.0) == 'Successfully switched over to "b"'
    ((method, _, _, body),) = answers.asked

    assert (method, json.loads(body)) == ("POST", {"leader": "a", "candidate": "b"})


def test_a_failover_by_hand_names_the_candidate_alone(served: Manifest, answers: Answers) -> None:
    answers.paths["/failover"] = (200, b"done")
    with Doors(served) as doors:
        assert doors.fail_over("b", "b", 5.0) == "done"
    assert json.loads(answers.asked[0][3]) == {"candidate": "b"}


def test_the_api_is_asked_for_its_role_with_the_token(served: Manifest, answers: Answers) -> None:
    answers.paths["/v1/role"] = (200, b'{"role": "standby"}')
    region = served.regions["a"].model_copy(update={"api": served.regions["a"].agent})
    with Doors(served.model_copy(update={"regions": {"a": region}})) as doors:
        assert doors.api_role("a") == {"role": "standby"}
    assert answers.asked[0][2] == "Bearer t0ken"


def test_a_refusal_is_passed_on_in_its_own_words(served: Manifest, answers: Answers) -> None:
    answers.paths["/switchover"] = (412, b"candidate name does not match with sync_standby")
    with (
        Doors(served) as doors,
        pytest.raises(Unanswered, match=r"refused \(412\): candidate name does not match"),
    ):
        doors.switch_over("a", "a", "b", 5.0)


@pytest.mark.parametrize(
    ("answer", "said"),
    [((401, b"{}"), "answered 401"), ((200, b"<html>"), "no answer: "), ((200, b"[]"), "is not an object")],
)
def test_an_answer_that_is_none_is_told(
    served: Manifest, answers: Answers, answer: tuple[int, bytes], said: str
) -> None:
    answers.paths["/status"] = answer
    with Doors(served) as doors, pytest.raises(Unanswered, match=said):
        doors.agent_status("a")


def test_a_closed_door_is_told(served: Manifest) -> None:
    with Doors(served) as doors:
        with pytest.raises(Unanswered, match="no answer: nothing listens"):
            doors.proxies()
        region = served.regions["a"].model_copy(update={"patroni": "https://127.0.0.1:1"})
        doors.manifest = served.model_copy(update={"regions": {"a": region}})
        with pytest.raises(Unanswered, match="nothing listens"):
            doors.switch_over("a", "a", "b", 1.0)


def test_a_server_of_another_root_is_not_trusted(served: Manifest, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    with (
        Doors(served.model_copy(update={"ca": other.pair.certificate})) as doors,
        pytest.raises(Unanswered, match=r"(?i)certificate verify failed"),
    ):
        doors.agent_status("a")
