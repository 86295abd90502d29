"""The database and the lease store of a local deployment, as an administrator reaches them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from pydantic import JsonValue

from chaos.faults.target import NotInjectedError, Place, Struck
from infra.doors import Doors, Unanswered
from infra.manifest import Manifest

MOVE_SECONDS = 5.0


@dataclass(frozen=True)
class Store:
    """Goes around the WAN, as somebody at the machine would."""

    manifest: Manifest

    def sql(self, place: Place, statement: str) -> list[tuple[object, ...]]:
        """The rows of the last of one or more statements. Raises NotInjectedError."""
        secret = self.manifest.directory / "secrets" / "postgres-superuser"
        where = make_conninfo(
            host="127.0.0.1",
            port=self.manifest.regions[place].postgres_port,
            user="postgres",
            dbname="holdfast",
            password=secret.read_text(encoding="utf-8").strip(),
            sslmode="verify-full",
            sslrootcert=str(self.manifest.ca),
            sslcert=str(self.manifest.client_cert),
            sslkey=str(self.manifest.client_key),
            connect_timeout=3,
            options="-c statement_timeout=10000",
        )
        try:
            with psycopg.connect(where, autocommit=True) as connection:
                cursor = connection.execute(statement.encode())
                while cursor.nextset():
                    pass
                return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise NotInjectedError(f"the database of region {place}: {str(error).strip()}") from error

    def move_lease_leader(self) -> Struck:
        """Another member of the lease store leads it, by the word of all three."""
        with Doors(self.manifest) as doors:
            members: dict[Place, tuple[str, str] | None] = {
                name: self._member(doors, url) for name, url in self._urls().items()
            }
            known: dict[Place, tuple[str, str]] = {name: one for name, one in members.items() if one is not None}
            before: Place | None = next((name for name, one in known.items() if one[0] == one[1]), None)
            following: list[Place] = [name for name in known if name != before]
            if before is None or not following:
                raise NotInjectedError(
                    f"the lease store has no leader that answers; heard {', '.join(known) or 'nobody'}"
                )
            to = following[-1]
            at = time.time()
            url = f"{self._urls()[before]}/v3/maintenance/transfer-leadership"
            self._post(doors, url, {"targetID": known[to][0]})
            deadline, leader = time.monotonic() + MOVE_SECONDS, None
            while leader != known[to][0] and time.monotonic() < deadline:
                seen = self._member(doors, self._urls()[to])
                leader = seen[1] if seen else None
        evidence: dict[str, JsonValue] = {"from": before, "to": to}
        return Struck(at, evidence, leader == known[to][0])

    def _urls(self) -> dict[Place, str]:
        regions = self.manifest.regions
        return {"a": regions["a"].etcd, "b": regions["b"].etcd, "w": self.manifest.witness.etcd}

    def _member(self, doors: Doors, url: str) -> tuple[str, str] | None:
        """A member's own id, and that of the one that it takes for the leader."""
        try:
            answer = self._post(doors, f"{url}/v3/maintenance/status", {})
        except NotInjectedError:
            return None
        return str(answer["header"]["member_id"]), str(answer.get("leader"))

    def _post(self, doors: Doors, url: str, body: dict[str, str]) -> Mapping[str, Any]:
        try:
            return doors.post(url, body)
        except Unanswered as error:
            raise NotInjectedError(f"the lease store at {url}: {error}") from error
