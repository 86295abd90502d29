"""A link is disturbed where its traffic goes, and a dial through it shows it; nobody's word is taken for it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any

import httpx
import pytest

from chaos.faults import NotInjectedError, NotLiftedError
from chaos.faults.local import LocalTarget, links
from chaos.faults.target import Disturbance, Path
from infra.manifest import Link, Manifest
from tests.support.deployments import manifest

pytestmark = pytest.mark.unit

BOTH = [Path("a", "b"), Path("b", "a")]


@dataclass
class Server:
    """One end of a link: answers a dial's first bytes, or does what it is told."""

    mood: str = "answers"
    delay: float = 0.0
    heard: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                self.heard.append(connection.recv(4096))
                time.sleep(self.delay)
                if self.mood == "answers":
                    connection.sendall(b"S")
                elif self.mood == "silent":
                    time.sleep(0.3)


@dataclass
class Proxies:
    """Toxiproxy's interface; `takes_effect` is what an order does to the dials."""

    place: Manifest
    orders: list[tuple[str, Any]] = field(default_factory=list)
    disturbed: dict[str, Any] = field(default_factory=dict)
    takes_effect: Callable[[], object] = lambda: None
    refuses: bool = False
    keeps: bool = False

    def __call__(self, method: str, url: str, *, json: Any = None, **_: object) -> httpx.Response:
        path = httpx.URL(url).path
        if self.refuses:
            return httpx.Response(500, text="no\n")
        if path == "/proxies":
            shown = {
                link.name: {"enabled": True, "toxics": []} | self.disturbed.get(link.name, {})
                for link in self.place.wan.links
            }
            return httpx.Response(200, json=shown)
        if path == "/reset":
            if not self.keeps:
                self.disturbed = {}
            return httpx.Response(204)
        self.orders.append((path, json))
        self.takes_effect()
        return httpx.Response(200, json={})


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def proxies(tmp_path: File, server: Server, monkeypatch: pytest.MonkeyPatch) -> Proxies:
    monkeypatch.setattr(links, "SILENT_SECONDS", 0.1)
    monkeypatch.setattr(links, "HEAL_SECONDS", 0.1)
    place = manifest(tmp_path)

    def link(source: str, target: str, line: str) -> Link:
        return place.wan.links[0].model_copy(
            update={
                "name": f"{source}-{target}.{line}",
                "source": source,
                "target": target,
                "line": line,
                "listen": server.address,
            }
        )

    made = [
        link("a", "b", "postgres"),
        link("b", "a", "postgres"),
        link("a", "b", "patroni"),
        link("a", "w", "observer"),
    ]
    wan = place.wan.model_copy(update={"links": made})
    told = Proxies(place.model_copy(update={"wan": wan}))
    monkeypatch.setattr(links.httpx, "request", told)
    return told


def orders(proxies: Proxies) -> list[str]:
    return sorted(path for path, _ in proxies.orders)


def test_a_cut_is_made_where_it_is_dialled_and_shown_by_refused_dials(proxies: Proxies, server: Server) -> None:
    proxies.takes_effect = server.close
    struck = LocalTarget(proxies.place).disturb(BOTH, Disturbance("cut"))
    assert orders(proxies) == ["/proxies/a-b.patroni", "/proxies/a-b.postgres", "/proxies/b-a.postgres"]
    assert {json.dumps(body) for _, body in proxies.orders} == {'{"enabled": false}'}
    assert (struck.evidence["shown"], struck.evidence["of"], struck.proven) == (3, 3, True)


def test_a_cut_that_lets_dials_through_is_not_proven(proxies: Proxies) -> None:
    struck = LocalTarget(proxies.place).disturb(BOTH, Disturbance("cut"))
    assert (struck.evidence["shown"], struck.proven) == (0, False)


def test_links_on_which_nobody_answered_before_show_nothing(proxies: Proxies, server: Server) -> None:
    server.close()
    assert not LocalTarget(proxies.place).disturb(BOTH, Disturbance("cut")).proven


def test_what_one_side_sends_vanishes_on_either_sides_links(proxies: Proxies, server: Server) -> None:
    proxies.takes_effect = lambda: setattr(server, "mood", "silent")
    struck = LocalTarget(proxies.place).disturb([Path("a", "b", "postgres")], Disturbance("drop"))
    made = {path: (body["type"], body["stream"], body["attributes"]) for path, body in proxies.orders}
    assert made == {
        "/proxies/a-b.postgres/toxics": ("timeout", "upstream", {"timeout": 0}),
        "/proxies/b-a.postgres/toxics": ("timeout", "downstream", {"timeout": 0}),
    }
    assert struck.proven


def test_a_reset_is_shown_by_dials_that_are_broken_off(proxies: Proxies, server: Server) -> None:
    proxies.takes_effect = lambda: setattr(server, "mood", "hangs up")
    struck = LocalTarget(proxies.place).disturb([Path("a", "w")], Disturbance("reset"))
    assert sorted(body["stream"] for _, body in proxies.orders) == ["downstream", "upstream"]
    assert struck.proven


@pytest.mark.parametrize(
    ("slower", "in_force", "proven"), [(0.05, True, True), (0.0, True, False), (0.05, False, False)]
)
def test_a_delay_is_shown_by_the_proxy_and_by_how_long_a_dial_takes(
    proxies: Proxies, server: Server, slower: float, in_force: bool, proven: bool
) -> None:
    proxies.takes_effect = lambda: setattr(server, "delay", slower)
    if in_force:
        proxies.disturbed = {"a-w.observer": {"toxics": [{"type": "latency"}]}}
    struck = LocalTarget(proxies.place).disturb([Path("a", "w")], Disturbance("delay", delay=40, jitter=5))
    assert proxies.orders[0][1]["attributes"] == {"latency": 40, "jitter": 5}
    assert struck.proven is proven


@pytest.mark.parametrize("in_force", [True, False])
def test_a_narrow_link_is_shown_by_what_its_proxy_carries(proxies: Proxies, in_force: bool) -> None:
    if in_force:
        proxies.disturbed = {"a-w.observer": {"toxics": [{"type": "bandwidth"}]}}
    struck = LocalTarget(proxies.place).disturb([Path("a", "w")], Disturbance("throttle", rate=64))
    assert struck.proven is in_force


def test_a_dial_speaks_as_the_lines_client_does(proxies: Proxies, server: Server) -> None:
    LocalTarget(proxies.place).disturb([Path("a", "b", "postgres")], Disturbance("cut"))
    assert set(server.heard) == {links._SSL_REQUEST}
    server.heard.clear()
    LocalTarget(proxies.place).disturb([Path("a", "w")], Disturbance("cut"))
    assert {heard[:3] for heard in server.heard} == {b"\x16\x03\x01"}


def test_traffic_that_no_link_carries_can_not_be_disturbed(proxies: Proxies) -> None:
    with pytest.raises(NotInjectedError, match="there is no link for"):
        LocalTarget(proxies.place).disturb([Path("w", "a", "postgres")], Disturbance("cut"))


def test_links_are_whole_again_afterwards(proxies: Proxies) -> None:
    proxies.disturbed = {"a-w.observer": {"enabled": False}}
    LocalTarget(proxies.place).heal()
    assert proxies.disturbed == {}


def test_links_that_stay_disturbed_are_told(proxies: Proxies) -> None:
    proxies.disturbed, proxies.keeps = {"a-w.observer": {"enabled": False}}, True
    with pytest.raises(NotLiftedError, match=r"links are disturbed still: a-w\.observer"):
        LocalTarget(proxies.place).heal()


def test_a_proxy_that_refuses_or_does_not_answer_is_told(proxies: Proxies, monkeypatch: pytest.MonkeyPatch) -> None:
    proxies.refuses = True
    with pytest.raises(NotInjectedError, match="toxiproxy refused POST /reset: no"):
        LocalTarget(proxies.place).heal()

    def gone(*_: object, **__: object) -> httpx.Response:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(links.httpx, "request", gone)
    with pytest.raises(NotInjectedError, match="toxiproxy does not answer"):
        LocalTarget(proxies.place).heal()
