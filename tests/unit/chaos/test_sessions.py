"""A session feeds runs, chooses its moment, waits with deadlines, and records what every part wrote down."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from holdfast.client import HistoryView, NotAnsweredError, RunView, Start
from pydantic import JsonValue

from chaos import actions, probes, record
from chaos import session as sessions
from chaos.checks.effects import effects_applied_once
from chaos.checks.reexecution import completed_operations_stay_completed
from chaos.history import Bounds, Effect, Fault
from chaos.plants import PLANTS
from chaos.plants.hook import after_import
from chaos.record import latest_attempts, record_attempts, record_events, record_workflows
from chaos.session import Session
from chaos.workload import Workload
from infra.doors import Unanswered
from infra.manifest import Manifest
from tests.support.deployments import manifest
from tests.support.histories import attempt, effect, tickets

pytestmark = pytest.mark.unit


@dataclass
class Client:
    """A deployment as its client sees it: what was started is open until somebody ends it."""

    answers: list[str] = field(default_factory=list)
    started: dict[str, str] = field(default_factory=dict)
    ends_after_looks: int | None = None
    active: str | None = "a"
    looks: int = 0

    def start(self, run_id: str, run_input: Mapping[str, JsonValue]) -> Start:
        outcome = self.answers.pop(0) if self.answers else "ok"
        if outcome == "ok":
            self.started[run_id] = "running"
        return Start(outcome, "a", "")  # type: ignore[arg-type]

    def runs(self, *, status: str | None = None, limit: int = 1000) -> list[RunView]:
        self.looks += 1
        if self.ends_after_looks is not None and self.looks > self.ends_after_looks:
            self.started = dict.fromkeys(self.started, "completed")
        return [
            RunView(run_id=run, status=now, accepted_at="") for run, now in self.started.items() if now == "running"
        ]

    def active_region(self) -> str | None:
        return self.active

    def close(self) -> None:
        """Nothing to close."""


class NoEffects:
    """A ledger in which nothing is."""

    def __init__(self, _: Manifest) -> None:
        """Of any deployment."""

    def effects(self, after: int = 0) -> list[Effect]:
        return []

    def close(self) -> None:
        """Nothing to close."""


@dataclass
class Faults:
    """Injects nothing, and remembers what it was told."""

    told: list[tuple[str, str]] = field(default_factory=list)

    def lose_region(self, region: str, moment: Callable[[], set[str]]) -> Fault:
        return self._did("region-loss", f"region {region}", moment())

    def crash_worker(self, region: str, moment: Callable[[], set[str]]) -> Fault:
        return self._did("worker-crash", f"a worker of region {region}", moment())

    def switch_over(self, to: str) -> Fault:
        return self._did("switchover", f"region {to}", set())

    def return_region(self, region: str) -> None:
        self.told.append(("return", region))

    def _did(self, name: str, target: str, workers: set[str]) -> Fault:
        self.told.append((name, target))
        return Fault(name=name, target=target, at=time.time(), evidence={"workers": sorted(workers)}, proven=True)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    made = manifest(tmp_path)
    made.api_token_file.parent.mkdir(parents=True)
    made.api_token_file.write_text("token")
    made.payments_token_file.write_text("token")
    monkeypatch.setattr(sessions, "HoldfastClient", lambda *_, **__: Client())
    monkeypatch.setattr(sessions, "Ledger", NoEffects)
    for name in ("POLL_SECONDS", "DOUBT_SECONDS"):
        monkeypatch.setattr(sessions, name, 0.001)
    return made


@pytest.fixture
def session(place: Manifest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    made = Session(place, runs=6, pace=0.005, stuck_after=0.2)
    client = Client()
    made.client = made._load_client = client  # type: ignore[assignment]
    made.faults = Faults()  # type: ignore[assignment]
    sessions.use(made)
    yield made
    sessions.use(None)
    made.close()


def client_of(session: Session) -> Client:
    assert isinstance(session.client, Client)
    return session.client


def test_the_load_begins_with_a_burst_and_goes_on(session: Session) -> None:
    assert actions.begin_load() == {"in-flight": 6}
    deadline = time.monotonic() + 5
    while len(client_of(session).started) < 9:
        assert time.monotonic() < deadline
    actions.end_load()
    started = len(client_of(session).started)
    actions.end_load()
    assert len(client_of(session).started) == started


def test_a_start_without_an_answer_is_tried_again_under_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaos.workload.RETRY_SECONDS", 0.001)
    client = Client(answers=["unknown", "unknown", "ok", "refused"])
    load = Workload(client, tickets(), "p-", 0, 60)  # type: ignore[arg-type]
    load._start(0)
    load._start(1)
    assert [(one.run_id, one.outcome) for one in load.operations] == [
        ("p-0000-T-1001", "unknown"),
        ("p-0000-T-1001", "unknown"),
        ("p-0000-T-1001", "ok"),
        ("p-0001-T-1002", "refused"),
    ]
    assert load.accepted_ids() == {"p-0000-T-1001"}


def test_runs_that_have_ended_are_made_up_for_before_the_fault(session: Session) -> None:
    session.begin_load()
    client = client_of(session)
    for run in list(client.started)[:4]:
        client.started[run] = "completed"
    assert probes.runs_are_in_flight(at_least=6)
    assert sum(status == "running" for status in client.started.values()) >= 6


def test_runs_that_end_too_soon_are_told(session: Session) -> None:
    assert not session.hold_in_flight(1)
    session.begin_load()
    client_of(session).ends_after_looks = 0
    assert not session.hold_in_flight(6, seconds=0.02)


def test_the_fault_waits_for_an_effect_that_nobody_knows_of(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def read(after: int = 0) -> list[Effect]:
        looks.append(after)
        old = effect("run-0", "notes", 3, 5.0, 6, worker="worker-1")
        new = effect("run-1", "notes", 3, 10.0, 7, worker="worker-2")
        return [one for one in (old, new)[: len(looks)] if one.seq > after]

    monkeypatch.setattr(session.ledger, "effects", read)
    told = actions.lose_active_region()
    assert told["evidence"] == {"workers": ["worker-2"]}
    assert (told["fault"], told["target"]) == ("region-loss", "region a")


def test_the_fault_strikes_all_the_same_where_no_effect_is_seen(session: Session) -> None:
    assert session.wait_in_doubt(seconds=0.01) == set()


def test_each_fault_goes_where_it_belongs(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "wait_in_doubt", set)
    actions.crash_worker()
    actions.switch_over()
    actions.lose_active_region()
    actions.return_lost_region()
    assert isinstance(session.faults, Faults)
    assert session.faults.told == [
        ("worker-crash", "a worker of region a"),
        ("switchover", "region b"),
        ("region-loss", "region a"),
        ("return", "a"),
    ]


def test_the_end_of_all_runs_is_awaited_as_long_as_some_end(session: Session) -> None:
    session.begin_load()
    session.injected.append(Fault(name="x", target="y", at=time.time() - 10))
    client_of(session).ends_after_looks = client_of(session).looks + 3
    assert probes.every_run_has_ended()


def test_runs_that_end_one_by_one_are_awaited_for_longer_than_one_may_stand_still(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.begin_load()
    session.end_load()
    now = [0.0]

    def pause(seconds: float) -> None:
        now[0] += session._stuck_after * 0.9
        for run in [run for run, status in client_of(session).started.items() if status == "running"][:1]:
            client_of(session).started[run] = "completed"

    monkeypatch.setattr(sessions, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=pause))
    assert session.wait_ended()
    assert now[0] > 5 * session._stuck_after


def test_runs_that_do_not_end_are_given_up(session: Session) -> None:
    session.begin_load()
    session.end_load()
    assert not session.wait_ended()


def test_a_wait_says_what_was_awaited_and_what_to_do(session: Session) -> None:
    with pytest.raises(TimeoutError, match=r"waited 0\.01 s for the moon; last seen: None\. See `holdfast status`"):
        session.wait("the moon", lambda: None, 0.01)


@pytest.mark.parametrize(
    ("active", "role", "database", "healthy"),
    [
        ("a", "standby", "sync_standby", True),
        ("a", "standby", "replica", False),
        ("a", "active", "sync_standby", False),
        (None, "standby", "sync_standby", False),
    ],
)
def test_a_deployment_is_healthy_with_one_active_region_and_its_synchronous_standby(
    session: Session, monkeypatch: pytest.MonkeyPatch, active: str | None, role: str, database: str, healthy: bool
) -> None:
    monkeypatch.setattr(sessions, "Doors", lambda _: nullcontext())
    standby = SimpleNamespace(role=role, database=SimpleNamespace(role=database, streaming=True))
    monkeypatch.setattr(sessions, "observe", lambda *_: SimpleNamespace(active=active, region=lambda _: standby))
    assert session.is_healthy() is healthy
    if healthy:
        assert probes.deployment_is_healthy(1)
        assert probes.another_region_is_active(1) == "a"


def test_a_session_of_its_own_is_made_from_the_environment(
    place: Manifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOLDFAST_RUNS", "3")
    monkeypatch.setattr(sessions.Manifest, "load", lambda _: place)
    sessions.use(None)
    assert sessions.current() is sessions.current()
    assert sessions.current().runs == 3
    sessions.use(None)


def lines(path: Path, *records: Any, torn: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in records) + torn)


def test_attempts_of_both_regions_and_of_killed_workers_are_recorded(place: Manifest) -> None:
    first, second = (attempt(run, 1, "started", at).model_dump() for run, at in (("run-1", 2.0), ("run-2", 1.0)))
    lines(place.regions["a"].attempts_dir / "attempts-worker-1.jsonl", first, torn='{"phase": "sta')
    lines(place.regions["b"].attempts_dir / "attempts-worker-2.jsonl", second)
    assert [one.run_id for one in record_attempts(place, {"run-1", "run-2"})] == ["run-2", "run-1"]
    assert [one.run_id for one in record_attempts(place, {"run-1"})] == ["run-1"]
    assert [one.run_id for one in latest_attempts(place)] == ["run-2", "run-1"]


def test_only_the_last_part_of_a_long_file_is_read_for_the_latest(
    place: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "LATEST_BYTES", 600)
    many = [attempt(f"run-{number}", 1, "started", float(number)).model_dump() for number in range(100)]
    lines(place.regions["a"].attempts_dir / "attempts-worker-1.jsonl", *many)
    assert [one.run_id for one in latest_attempts(place)][-1] == "run-99"
    assert len(latest_attempts(place)) < 5


def test_events_since_the_beginning_are_recorded_in_order(place: Manifest) -> None:
    lines(place.regions["a"].events_file, {"at": 1, "event": "old"}, {"at": 12, "event": "later", "epoch": 2})
    lines(place.regions["b"].events_file, {"at": 11, "event": "first"})
    found = record_events(place, 10)
    assert [(one.region, one.event) for one in found] == [("b", "first"), ("a", "later")]
    assert found[1].member("epoch") == 2


class Teller(Client):
    """Knows one run, not another, and can't be asked about a third."""

    def run(self, run_id: str) -> RunView | None:
        if run_id == "silent":
            raise NotAnsweredError("no answer")
        return RunView(run_id=run_id, status="completed", accepted_at="") if run_id != "lost" else None

    def history(self, run_id: str) -> list[HistoryView]:
        if run_id == "torn":
            raise NotAnsweredError("no answer")
        at = "2026-01-01T00:00:00+00:00"
        return [
            HistoryView(sequence=0, type="taskScheduled", timestamp=at, task_id=1, input={"ordinal": 4}),
            HistoryView(sequence=1, type="taskCompleted", timestamp=at, task_id=1, result={"ok": 1}),
        ]


def test_the_ledger_is_read_to_its_end(place: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [effect("run-1", "notes", 1, 1.0, seq).model_dump() for seq in range(1, 6)]
    asked: list[str] = []
    broken: list[bool] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.query.decode())
        if broken:
            return httpx.Response(503)
        after, limit = (int(request.url.params[name]) for name in ("after", "limit"))
        return httpx.Response(200, json=[one for one in entries if one["seq"] > after][:limit])

    real = httpx.Client
    monkeypatch.setattr(record, "PAGE", 2)
    monkeypatch.setattr(record.ssl, "create_default_context", lambda **_: None)
    monkeypatch.setattr(
        record.httpx, "Client", lambda **o: real(transport=httpx.MockTransport(answer), base_url=o["base_url"])
    )
    ledger = record.Ledger(place)
    assert [one.seq for one in ledger.effects() or []] == [1, 2, 3, 4, 5]
    assert asked == ["after=0&limit=2", "after=2&limit=2", "after=4&limit=2"]
    assert [one.seq for one in ledger.effects(4) or []] == [5]
    broken.append(True)
    assert ledger.effects() is None
    ledger.close()


def test_what_could_not_be_asked_is_recorded_as_such() -> None:
    found = {one.run_id: one for one in record_workflows(Teller(), ["known", "lost", "silent", "torn"])}  # type: ignore[arg-type]
    assert found.keys() == {"known", "silent", "torn"}
    assert (found["silent"].status, found["silent"].history) == (None, None)
    assert (found["torn"].status, found["torn"].history) == ("completed", None)
    assert [(item.ordinal, item.ok) for item in found["known"].history or []] == [(4, None), (None, True)]


class EndsWhileAsked(Teller):
    """Its only run is executed, makes its effect and ends just before it is asked for."""

    def __init__(self, place: Manifest, ledger: list[Effect]) -> None:
        super().__init__()
        self.place, self.ledger = place, ledger

    def run(self, run_id: str) -> RunView | None:
        self.ledger.append(effect(run_id, "notifications", 4, 1.0, 1))
        lines(
            self.place.regions["a"].attempts_dir / "attempts-worker-1.jsonl",
            *(attempt(run_id, 4, phase, 1.0).model_dump() for phase in ("started", "ended")),
        )
        return super().run(run_id)


def test_what_a_run_did_until_it_was_looked_at_is_recorded(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger: list[Effect] = []
    client = EndsWhileAsked(session.manifest, ledger)
    session.client = client  # type: ignore[assignment]
    session.workload = Workload(client, tickets(), "p-", 0, 60)  # type: ignore[arg-type]
    session.workload._start(0)
    monkeypatch.setattr(session.ledger, "effects", lambda: list(ledger))
    history = session.record("region-loss")
    assert effects_applied_once(history).answer == "valid"
    assert completed_operations_stay_completed(history).answer == "valid"
    assert (history.experiment, history.events, history.faults) == ("region-loss", [], [])


def test_a_record_promises_what_its_faults_need(session: Session) -> None:
    assert session.record("switchover").bounds == Bounds(minimum_in_flight=6)
    session.injected.append(Fault(name="worker-crash", target="worker-1", at=1.0))
    assert session.record("worker-crash").bounds == Bounds(minimum_in_flight=6, minimum_in_doubt=1)


def test_a_part_that_does_not_answer_is_asked_again(session: Session) -> None:
    answers: list[str | Unanswered] = [Unanswered("no answer (connection refused)"), "a"]

    def look() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Unanswered):
            raise answer
        return answer

    assert session.wait("an answer", look, 5) == "a"


def test_reports_are_kept_in_the_state_directory(tmp_path: Path) -> None:
    assert sessions.reports_directory(tmp_path) == tmp_path / "reports"


def test_every_planted_bug_is_a_folder_that_python_loads() -> None:
    for plant in PLANTS.values():
        assert (plant.folder / "sitecustomize.py").is_file()
        assert plant.caught_by in ("K1", "K2")


def test_a_patch_waits_for_the_import_of_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "patched_module.py").write_text("answer = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    patched: list[Any] = []
    after_import("patched_module", patched.append)
    assert patched == []
    import patched_module  # type: ignore[import-not-found]

    assert patched == [patched_module]
    del sys.modules["patched_module"]
