"""Whether a part does its work, seen from outside: each look is quick, read-only, and says what it saw."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import httpx
import psycopg

from infra.local import postgres, wan
from infra.local.layout import Layout
from infra.local.site import Site
from infra.local.supervisor import status

__all__ = ["Looker", "Sight"]

_SECONDS = 2.0


@dataclass(frozen=True)
class Sight:
    """What was seen: whether it is as it should be, and a detail for a person."""

    good: bool
    detail: str


class Looker:
    """Looks at the parts of one deployment with the client certificate; use it as a context."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        context = ssl.create_default_context(cafile=str(layout.ca))
        context.load_cert_chain(layout.client.certificate, layout.client.key)
        token = layout.secret("api-token").read_text(encoding="utf-8").strip()
        self._token = {"authorization": f"Bearer {token}"}
        # Nothing of a deployment is ever behind a proxy that the environment names.
        self._http = httpx.Client(verify=context, timeout=_SECONDS, trust_env=False)

    def __enter__(self) -> Looker:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def processes(self, site: Site) -> Sight:
        """Whether the supervisor runs everything that starts by itself."""
        seen = status(site.socket)
        if seen is None:
            return Sight(False, "its supervisor is not running")
        dead = [
            f"{one.name} ({seen[one.name].status}, exit code {seen[one.name].exit_code})"
            if one.name in seen
            else f"{one.name} (unknown to the supervisor)"
            for one in site.processes
            if one.autostart and not (one.name in seen and seen[one.name].running)
        ]
        return Sight(not dead, f"not running: {', '.join(dead)}" if dead else "running")

    def listening(self, site: Site) -> Sight:
        """Whether everything that starts by itself answers where it is to listen."""
        closed = [
            f"{process.name} on port {port}"
            for process in site.processes
            if process.autostart
            for name, port in process.ports.items()
            # To ask a link is to dial through it; toxiproxy says of each whether it is open.
            if not name.startswith("link ") and not _accepts(port)
        ]
        return Sight(not closed, f"does not listen: {', '.join(closed)}" if closed else "listening")

    def links(self) -> Sight:
        try:
            closed = wan.closed_links(self._layout)
        except OSError as error:
            return Sight(False, str(error))
        return Sight(not closed, f"cut: {', '.join(closed)}" if closed else "every link is open")

    def quorum(self, where: str) -> Sight:
        """Whether the member at `where` sees a leader of the lease store."""
        try:
            answer = self._http.get(f"{self._layout.url(f'{where}.etcd')}/health")
            body = cast("Mapping[str, Any]", answer.json())
        except (httpx.HTTPError, ValueError) as error:
            return Sight(False, f"its lease store's member does not answer ({_brief(error)})")
        good = body.get("health") == "true"
        return Sight(good, "has a quorum" if good else f"its lease store: {body.get('reason') or 'no quorum'}")

    def patroni(self, region: str) -> Mapping[str, Any] | None:
        """What Patroni says of the region's node, if it answers."""
        try:
            answer = self._http.get(f"{self._layout.url(f'{region}.patroni')}/patroni")
            return cast("Mapping[str, Any]", answer.json())
        except (httpx.HTTPError, ValueError):
            return None

    def database(self, region: str) -> Sight:
        """Whether the region's node is primary, or streams from the one that is."""
        node = self.patroni(region)
        if node is None:
            return Sight(False, "Patroni does not answer")
        role, state = node.get("role"), node.get("state")
        streams = node.get("replication_state")
        detail = f"its database is {role}, {state}{f', {streams}' if streams else ''}"
        if role == "primary" and state == "running":
            # While it bootstraps it is primary already, and has neither the app's role nor its database.
            return self._accepts_app(region, detail)
        if role == "primary":
            return Sight(False, detail)
        return Sight(streams == "streaming", detail)

    def _accepts_app(self, region: str, detail: str) -> Sight:
        parts = postgres.dsn(self._layout, region)
        try:
            with psycopg.connect(parts, connect_timeout=2) as connection:
                connection.execute("select 1")
        except psycopg.Error as error:
            return Sight(
                False, f"{detail}, not ready for the app: {str(error).strip().rpartition('FATAL: ')[2].strip()}"
            )
        return Sight(True, detail)

    def synchronous(self, region: str) -> Sight:
        """`database`, and a standby is synchronous: a loss of the primary would lose nothing."""
        sight, node = self.database(region), self.patroni(region)
        if not sight.good or node is None or node.get("role") == "primary" or node.get("sync_standby"):
            return sight
        return Sight(False, f"{sight.detail}, not yet synchronous")

    def agent(self, region: str) -> Sight:
        """Whether the region agent has the role that the database gives it."""
        try:
            answer = self._http.get(f"{self._layout.url(f'{region}.agent')}/status", headers=self._token)
            body = cast("Mapping[str, Any]", answer.raise_for_status().json())
        except (httpx.HTTPError, ValueError) as error:
            return Sight(False, f"its region agent does not answer ({_brief(error)})")
        node = self.patroni(region) or {}
        wanted = "active" if node.get("role") == "primary" else "standby"
        return Sight(body.get("role") == wanted, f"its region agent says {body.get('role')}")

    def api(self, region: str) -> Sight:
        try:
            answer = self._http.get(f"{self._layout.url(f'{region}.api')}/healthz")
        except httpx.HTTPError as error:
            return Sight(False, f"its API does not answer ({_brief(error)})")
        return Sight(answer.is_success, f"its API answers {answer.status_code}")

    def apply_dynamic(self, region: str) -> bool:
        """Whether the lease store's copy of Patroni's settings had to be changed."""
        url, wanted = f"{self._layout.url(f'{region}.patroni')}/config", postgres.dynamic(self._layout)
        seen = cast("dict[str, object]", self._http.get(url).raise_for_status().json())
        if not postgres.settings_differ(seen, wanted):
            return False
        self._http.patch(url, json=wanted).raise_for_status()
        return True


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False


def _brief(error: Exception) -> str:
    return str(error) or type(error).__name__
