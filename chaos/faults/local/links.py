"""Links of a local deployment: toxiproxy disturbs them, and a dial through each one shows that it does."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, NamedTuple

import httpx
from pydantic import JsonValue

from chaos.faults.target import Disturbance, NotInjectedError, NotLiftedError, Path, Struck
from infra.manifest import Link, Manifest

SILENT_SECONDS, API_SECONDS, HEAL_SECONDS = 1.5, 5.0, 10.0
_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""How a PostgreSQL client begins; the server answers with one byte."""

Stream = Literal["upstream", "downstream"]
Dialled = Literal["answers", "silent", "refused", "reset"]


class Dial(NamedTuple):
    """What became of one dial, and how long it took."""

    what: Dialled
    seconds: float


@dataclass(frozen=True)
class Links:
    """Each link is a proxy with a stream in either direction: `upstream` from who dials to who answers."""

    manifest: Manifest

    def disturb(self, paths: Sequence[Path], how: Disturbance) -> Struck:
        """The disturbance on every link of the paths; proven by links that answered before and no longer do so."""
        streams = self._streams(paths, how)
        links = {link.name: link for link in self.manifest.wan.links if link.name in streams}
        if not links:
            raise NotInjectedError(f"there is no link for {', '.join(map(str, paths))}")
        before = _dial_all(links)
        at = time.time()
        # All at once: a line that falls silent long before the others tells more than a lost network would.
        with ThreadPoolExecutor(len(streams)) as pool:
            doing = [pool.submit(self._apply, name, affected, how) for name, affected in streams.items()]
        for one in doing:
            one.result()
        after = _dial_all(links)
        shown = {name: _shown(how, len(streams[name]), before[name], after[name]) for name in links}
        judged = [shown[name] for name in links if before[name].what == "answers"]
        told: dict[str, JsonValue] = {
            name: f"{before[name].what} in {before[name].seconds * 1000:.0f} ms, then {after[name].what}"
            f" in {after[name].seconds * 1000:.0f} ms"
            for name in links
        }
        if how.kind in ("delay", "throttle"):
            # A dial may be slow for other reasons: only the proxy can say what it adds.
            judged = [shown[name] and bool(toxics) for name, toxics in self._toxics(links).items()]
        evidence: dict[str, JsonValue] = {"kind": how.kind, "links": told, "shown": sum(judged), "of": len(links)}
        return Struck(at, evidence, bool(judged) and all(judged))

    def heal(self) -> None:
        """Every link is open and carries no toxic."""
        deadline = time.monotonic() + HEAL_SECONDS
        self._ask("POST", "/reset")
        while disturbed := self._disturbed():
            if time.monotonic() > deadline:
                raise NotLiftedError(f"links are disturbed still: {', '.join(disturbed)}; see `holdfast status`")
            self._ask("POST", "/reset")
            time.sleep(0.1)

    def _streams(self, paths: Sequence[Path], how: Disturbance) -> dict[str, set[Stream]]:
        """Which streams of which links carry the paths. What is cut or reset is cut where it is dialled."""
        found: dict[str, set[Stream]] = {}
        for path in paths:
            for link in self.manifest.wan.links:
                if path.line is not None and link.line != path.line:
                    continue
                ends = (link.source, link.target)
                if ends == (path.source, path.target):
                    found.setdefault(link.name, set()).add("upstream")
                elif ends == (path.target, path.source) and how.kind not in ("cut", "reset"):
                    found.setdefault(link.name, set()).add("downstream")
        return found

    def _apply(self, name: str, streams: set[Stream], how: Disturbance) -> None:
        if how.kind == "cut":
            self._ask("POST", f"/proxies/{name}", {"enabled": False})
            return
        toxic, attributes = {
            "drop": ("timeout", {"timeout": 0}),
            "reset": ("reset_peer", {"timeout": 0}),
            "delay": ("latency", {"latency": how.delay, "jitter": how.jitter}),
            "throttle": ("bandwidth", {"rate": how.rate}),
        }[how.kind]
        for stream in sorted(streams | ({"downstream"} if how.kind == "reset" else set[Stream]())):
            body = {"name": f"{toxic}-{stream}", "type": toxic, "stream": stream, "attributes": attributes}
            self._ask("POST", f"/proxies/{name}/toxics", body, also=(httpx.codes.CONFLICT,))

    def _toxics(self, names: Sequence[str] | dict[str, Link]) -> dict[str, list[str]]:
        proxies = self._ask("GET", "/proxies")
        return {name: [toxic["type"] for toxic in proxies[name]["toxics"]] for name in names}

    def _disturbed(self) -> list[str]:
        proxies = self._ask("GET", "/proxies")
        return [name for name, one in sorted(proxies.items()) if not one["enabled"] or one["toxics"]]

    def _ask(self, method: str, path: str, body: object = None, also: tuple[int, ...] = ()):
        url = f"{self.manifest.wan.toxiproxy}{path}"
        try:
            response = httpx.request(method, url, json=body, timeout=API_SECONDS, trust_env=False)
        except httpx.HTTPError as error:
            raise NotInjectedError(f"toxiproxy does not answer ({error!r}): see `holdfast status`") from error
        if response.is_error and response.status_code not in also:
            raise NotInjectedError(f"toxiproxy refused {method} {path}: {response.text.strip()}")
        return response.json() if response.content else {}


def _shown(how: Disturbance, streams: int, before: Dial, after: Dial) -> bool:
    """Whether the second dial shows the disturbance."""
    match how.kind:
        case "cut":
            return after.what in ("refused", "reset")
        case "reset":
            return after.what == "reset"
        case "drop":
            return after.what == "silent"
        case "delay":
            return after.what == "silent" or after.seconds * 1000 >= (how.delay - how.jitter) * streams
        case "throttle":
            return True


def _dial_all(links: dict[str, Link]) -> dict[str, Dial]:
    with ThreadPoolExecutor(len(links)) as pool:
        return dict(zip(links, pool.map(_dial, links.values()), strict=True))


def _dial(link: Link) -> Dial:
    """Begin to speak as a client of the line would, and see whether the first byte comes back."""
    host, _, port = link.listen.rpartition(":")
    began = time.monotonic()
    try:
        with socket.create_connection((host, int(port)), timeout=SILENT_SECONDS) as connection:
            connection.sendall(_SSL_REQUEST if link.line == "postgres" else _client_hello())
            answered: Dialled = "answers" if connection.recv(1) else "reset"
    except TimeoutError:
        answered = "silent"
    except ConnectionRefusedError:
        answered = "refused"
    except OSError:
        answered = "reset"
    return Dial(answered, time.monotonic() - began)


def _client_hello() -> bytes:
    # Nobody is trusted by this: it only begins to speak.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()
