"""An administrator's statements reach the database of a region, and the lease store is led by who is asked to."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psycopg
import pytest

from chaos.faults import NotInjectedError
from chaos.faults.local import LocalTarget, store
from infra.doors import Unanswered
from infra.manifest import Manifest
from tests.support.deployments import manifest

pytestmark = pytest.mark.unit


class Cursor:
    """Gives the rows of the last of its statements."""

    def __init__(self, results: list[list[tuple[object, ...]] | None]) -> None:
        self.results = results

    def nextset(self) -> bool:
        if len(self.results) > 1:
            self.results.pop(0)
            return True
        return False

    @property
    def description(self) -> object:
        return self.results[0]

    def fetchall(self) -> list[tuple[object, ...]]:
        assert self.results[0] is not None
        return self.results[0]


@pytest.fixture
def place(tmp_path: Path) -> Manifest:
    made = manifest(tmp_path)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "postgres-superuser").write_text("it's secret\n")
    return made


@pytest.mark.parametrize(("results", "rows"), [([None, [(5,)]], [(5,)]), ([[(1,)], None], []), ([[(2,)]], [(2,)])])
def test_the_rows_of_the_last_statement_are_given(
    place: Manifest, monkeypatch: pytest.MonkeyPatch, results: list[Any], rows: list[Any]
) -> None:
    asked: list[str] = []

    class Connection:
        def execute(self, statement: bytes) -> Cursor:
            asked.append(statement.decode())
            return Cursor(results)

    def connect(where: str, *, autocommit: bool) -> Any:
        asked.append(where)
        return nullcontext(Connection())

    monkeypatch.setattr(store.psycopg, "connect", connect)
    assert LocalTarget(place).sql("b", "select 5") == rows
    assert r"password='it\'s secret'" in asked[0]
    assert "sslmode=verify-full" in asked[0]
    assert asked[1] == "select 5"


def test_a_database_that_does_not_answer_is_told(place: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise psycopg.OperationalError("connection refused\n")

    monkeypatch.setattr(store.psycopg, "connect", refuse)
    with pytest.raises(NotInjectedError, match="the database of region a: connection refused"):
        LocalTarget(place).sql("a", "select 1")


class LeaseStore:
    """Three members, one of which leads; a test says who answers and whether the lead moves."""

    def __init__(self, described: Manifest) -> None:
        self.names = {f"https://{name}.example": str(number) for number, name in enumerate("abw", 1)}
        self.leader, self.moves = "1", True
        self.silent: set[str] = set()

    def __enter__(self) -> LeaseStore:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def post(self, url: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        base, _, what = url.partition("/v3/maintenance/")
        if base in self.silent:
            raise Unanswered("no answer")
        if what == "status":
            return {"header": {"member_id": self.names[base]}, "leader": self.leader}
        assert self.names[base] == self.leader
        if self.moves:
            self.leader = body["targetID"]
        return {}


@pytest.fixture
def lease(place: Manifest, monkeypatch: pytest.MonkeyPatch) -> tuple[LeaseStore, LocalTarget]:
    made = LeaseStore(place)
    regions = {
        name: region.model_copy(update={"etcd": f"https://{name}.example"}) for name, region in place.regions.items()
    }
    witness = place.witness.model_copy(update={"etcd": "https://w.example"})
    monkeypatch.setattr(store, "Doors", lambda _: made)
    monkeypatch.setattr(store, "MOVE_SECONDS", 0.05)
    return made, LocalTarget(place.model_copy(update={"regions": regions, "witness": witness}))


@pytest.mark.parametrize(("leader", "to"), [("1", "3"), ("3", "2")])
def test_another_member_leads_by_its_own_word(lease: tuple[LeaseStore, LocalTarget], leader: str, to: str) -> None:
    members, target = lease
    members.leader = leader
    struck = target.move_lease_leader()
    assert (members.leader, struck.proven) == (to, True)
    assert struck.evidence.keys() == {"from", "to"}


def test_a_lead_that_does_not_move_is_not_proven(lease: tuple[LeaseStore, LocalTarget]) -> None:
    members, target = lease
    members.moves = False
    assert not target.move_lease_leader().proven


@pytest.mark.parametrize("silent", [{"a"}, {"a", "b", "w"}, {"b", "w"}])
def test_without_a_leader_that_answers_or_another_member_nothing_moves(
    lease: tuple[LeaseStore, LocalTarget], silent: set[str]
) -> None:
    members, target = lease
    members.silent = {f"https://{name}.example" for name in silent}
    with pytest.raises(NotInjectedError, match="the lease store has no leader that answers"):
        target.move_lease_leader()


def test_a_leader_that_refuses_is_told(lease: tuple[LeaseStore, LocalTarget], monkeypatch: pytest.MonkeyPatch) -> None:
    members, target = lease
    status = members.post

    def refuse(url: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if url.endswith("transfer-leadership"):
            raise Unanswered("answered 500")
        return status(url, body)

    monkeypatch.setattr(members, "post", refuse)
    with pytest.raises(NotInjectedError, match="answered 500"):
        target.move_lease_leader()
