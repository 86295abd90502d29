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
from typing import Any, ClassVar

import httpx
import pytest
from holdfast.client import HistoryView, NotAnsweredError, RunView, Start
from pydantic import JsonValue

from chaos import actions, probes, record
from chaos import session as sessions
from chaos.checks import CHECKS
from chaos.checks.claims import claims_hold
from chaos.checks.effects import effects_applied_once
from chaos.checks.reexecution import completed_operations_stay_completed
from chaos.experiment import EXPERIMENTS
from chaos.faults import NotInjectedError, NotLiftedError
from chaos.faults.target import Struck
from chaos.history import Bounds, Claim, Effect, Fault, Observation, RoleSample
from chaos.plants import PLANTS
from chaos.plants.hook import after_import
from chaos.record import latest_attempts, record_attempts, record_events, record_workflows
from chaos.sampling import Sampler
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
class ToldKind:
    """A fault that does nothing, and remembers where it was put in force and taken back."""

    name: str
    told: list[str]
    needs: frozenset[str] = frozenset({"kill"})
    in_doubt: bool = False
    does: str = "Nothing"
    refuses: str = ""
    stays: str = ""
    until: float | None = None

    def inject(self, target: object, place: str, moment: Callable[[], set[str]]) -> Struck:
        if self.refuses:
            raise NotInjectedError(self.refuses)
        self.told.append(f"{self.name} at {place}")
        workers: list[JsonValue] = [*sorted(moment() if self.in_doubt else ())]
        return Struck(time.time(), {"workers": workers}, True, killed=[7], frozen=[8], cut_off=["a"], until=self.until)

    def lift(self, target: object, place: str) -> None:
        self.told.append(f"lift {self.name} at {place}")
        if self.stays:
            raise NotLiftedError(self.stays)


@dataclass
class ToldTarget:
    """A target that can nothing but kill, and whose databases are as told."""

    in_recovery: list[bool] = field(default_factory=lambda: [True])

    def can(self, ability: str) -> str:
        return "" if ability == "kill" else f"no {ability} here"

    def sql(self, place: str, statement: str) -> list[tuple[object, ...]]:
        if not self.in_recovery:
            raise NotInjectedError("the database does not answer")
        return [(self.in_recovery.pop(0) if len(self.in_recovery) > 1 else self.in_recovery[0],)]


class Watching:
    """Has seen a completed operation."""

    roles: ClassVar[list[RoleSample]] = []
    observations: ClassVar[list[Observation]] = [Observation(run_id="r", at=1, region="a", status="", ordinals=[1])]

    has_seen_progress = True

    def start(self) -> None:
        """It has."""

    def stop(self) -> None:
        """It has."""


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
    made.target = ToldTarget()  # type: ignore[assignment]
    made.sampler = Watching()  # type: ignore[assignment]
    sessions.use(made)
    yield made
    sessions.use(None)
    made.close()


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> dict[str, ToldKind]:
    """The faults that there are; what is done to them is in the list `told` of each."""
    told: list[str] = []
    kinds = {name: ToldKind(name, told) for name in ("worker-crash", "region-loss", "isolate")}
    kinds["region-loss"].in_doubt = kinds["worker-crash"].in_doubt = True
    monkeypatch.setattr(sessions, "fault_named", lambda name: kinds[name])
    monkeypatch.setattr(sessions, "FAULTS", kinds)
    return kinds


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


def test_runs_are_started_until_so_many_were_accepted(session: Session) -> None:
    session._pace = 60
    with pytest.raises(AssertionError, match="begin it first"):
        actions.start_runs(10)
    actions.begin_load()
    assert actions.start_runs(10) == {"accepted": 10}
    assert actions.start_runs(8) == {"accepted": 10}


def test_runs_are_started_as_earlier_ones_end(session: Session) -> None:
    session._pace = 60
    actions.begin_load()
    client = client_of(session)
    client.ends_after_looks = client.looks + 2
    assert actions.start_runs(16, open_at_most=8) == {"accepted": 16}
    assert sum(status == "running" for status in client.started.values()) <= 8


def test_runs_that_never_end_are_not_waited_for_without_end(session: Session) -> None:
    session._pace = 60
    actions.begin_load()
    with pytest.raises(TimeoutError, match="fewer than 6 runs to be open, 4 are to be started yet"):
        actions.start_runs(10, open_at_most=6, seconds=0.05)


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


def test_the_fault_waits_until_a_client_has_seen_an_operation_completed(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([False, False, True])

    class Told(Sampler):
        has_seen_progress = property(lambda _: next(looks))  # type: ignore[assignment]

        def start(self) -> None:
            """Nobody is looked at."""

    monkeypatch.setattr(session, "sampler", Told(session.manifest, set))
    session.begin_load()
    assert session.hold_in_flight(6)
    assert next(looks, None) is None


def test_the_fault_waits_for_an_effect_that_nobody_knows_of(
    session: Session, faults: dict[str, ToldKind], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def read(after: int = 0) -> list[Effect]:
        looks.append(after)
        old = effect("run-0", "notes", 3, 5.0, 6, worker="worker-1")
        new = effect("run-1", "notes", 3, 10.0, 7, worker="worker-2")
        return [one for one in (old, new)[: len(looks)] if one.seq > after]

    monkeypatch.setattr(session.ledger, "effects", read)
    told = actions.inject("region-loss")
    assert told["evidence"] == {"workers": ["worker-2"]}
    assert (told["fault"], told["target"]) == ("region-loss", "region a")


def test_the_fault_strikes_all_the_same_where_no_effect_is_seen(session: Session) -> None:
    assert session.wait_in_doubt(seconds=0.01) == set()


@pytest.fixture
def at_once(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults strike without a wait for their moment."""
    monkeypatch.setattr(session, "wait_in_doubt", set)


@pytest.mark.usefixtures("at_once")
def test_each_fault_goes_where_it_belongs_and_back_the_last_first(
    session: Session, faults: dict[str, ToldKind]
) -> None:
    for where in ("active", "standby", "a", "b", "witness", "struck"):
        actions.inject("isolate", where)
    session.inject("region-loss", "a")
    session.inject("isolate", "spared")
    told = faults["isolate"].told
    assert told == [*(f"isolate at {place}" for place in "ababww"), "region-loss at a", "isolate at b"]
    told.clear()
    assert actions.lift("region-loss") == {"lifted": ["region-loss"]}
    assert actions.lift() == {"lifted": ["isolate"] * 7}
    assert told == ["lift region-loss at a", *(f"lift isolate at {place}" for place in "bwwbaba")]
    assert actions.lift() == {"lifted": []}


@pytest.mark.usefixtures("at_once")
def test_a_fault_is_recorded_with_whom_it_struck_and_until_when(session: Session, faults: dict[str, ToldKind]) -> None:
    session.inject("isolate", "witness")
    (fault,) = session.injected
    assert (fault.target, fault.killed, fault.frozen, fault.cut_off) == ("witness", [7], [8], ["a"])
    assert (fault.proven, fault.until) == (True, None)
    session.lift()
    assert fault.at <= (session.injected[0].until or 0) <= time.time()
    assert session.active_before == "a"


@pytest.mark.usefixtures("at_once")
def test_a_fault_that_is_over_by_itself_is_not_recorded_as_in_force_until_it_is_lifted(
    session: Session, faults: dict[str, ToldKind]
) -> None:
    faults["isolate"].until = 5.0
    session.inject("isolate")
    session.lift()
    assert session.injected[0].until == 5.0


def test_a_fault_that_could_not_be_injected_is_recorded_as_such(session: Session, faults: dict[str, ToldKind]) -> None:
    faults["isolate"].refuses = "toxiproxy does not answer"
    with pytest.raises(NotInjectedError):
        session.inject("isolate")
    (fault,) = session.injected
    assert (fault.proven, fault.evidence) == (False, {"not-injected": "toxiproxy does not answer"})
    session.lift()
    assert faults["isolate"].told == ["lift isolate at a"]


def test_a_fault_that_the_target_does_not_offer_is_not_tried(session: Session, faults: dict[str, ToldKind]) -> None:
    faults["isolate"].needs = frozenset({"links", "kill"})
    with pytest.raises(NotInjectedError, match="no links here"):
        session.inject("isolate")
    assert faults["isolate"].told == []
    assert not session.injected[0].proven


def test_a_place_that_there_is_not_is_refused(session: Session, faults: dict[str, ToldKind]) -> None:
    with pytest.raises(NotInjectedError, match="there is no place 'moon'; there are active, standby"):
        session.inject("isolate", "moon")
    assert not session.injected[0].proven


@pytest.mark.usefixtures("at_once")
def test_all_is_lifted_though_one_stays_in_force(session: Session, faults: dict[str, ToldKind]) -> None:
    session.inject("isolate")
    session.inject("region-loss")
    faults["region-loss"].stays = "still down"
    with pytest.raises(NotLiftedError, match="region-loss at region a: still down"):
        session.lift()
    assert faults["isolate"].told[-1] == "lift isolate at a"
    faults["region-loss"].stays = ""
    assert session.lift() == ["region-loss"]


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
        assert probes.a_region_is_active(1)


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

    def export(self, run_id: str) -> bytes:
        raise NotAnsweredError("no answer")

    def history(self, run_id: str, *, seconds: float = 15.0) -> list[HistoryView]:
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


def view(kind: str, **members: Any) -> HistoryView:
    return HistoryView(sequence=1, type=kind, timestamp="1970-01-01T00:01:40+00:00", **members)


def test_of_a_historys_events_is_kept_what_checkers_ask_for() -> None:
    operation = {"ordinal": 2, "kind": "tool", "name": "note", "attempt": 1}
    asked = record.item_of(
        view("taskScheduled", task_id=4, input={**operation, "params": {"ctx": {"tool_call_id": "c"}}})
    )
    assert (asked.at, asked.task_id, asked.call_id) == (100.0, 4, "c")
    assert (asked.ordinal, asked.kind, asked.name, asked.attempt) == (2, "tool", "note", 1)
    usage = {"usage": {"input_tokens": 90, "output_tokens": 7}}
    answered = record.item_of(view("taskCompleted", task_id=4, result={"ok": usage}))
    assert (answered.ok, answered.tokens) == (True, 97)
    failed = record.item_of(view("taskCompleted", task_id=4, result={"err": {"type": "ValueError"}}))
    assert (failed.ok, failed.tokens) == (False, None)
    assert record.item_of(view("timerCreated", task_id=5, due="1970-01-01T00:02:00+00:00")).due == 120.0
    for said, ok in (("tool-approved", True), ("tool-denied", False)):
        raised = record.item_of(view("eventRaised", name="approval:c", input={"kind": said}))
        assert (raised.name, raised.ok) == ("approval:c", ok)
    started = record.item_of(view("executionStarted", input={"run_id": "run-1"}, result=None))
    assert (started.ordinal, started.ok, started.name) == (None, None, None)


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
    # What could not be exported is recorded as such, and was promised.
    assert [(one.same, one.difference) for one in history.replays or []] == [(None, "no answer")]
    assert [(one.proven, one.reason) for one in history.proofs or []] == [(None, "no answer")]
    assert (history.bounds.replays, history.bounds.proofs) == (1, 1)


def test_a_record_promises_what_its_first_fault_needs(session: Session) -> None:
    promised = Bounds(minimum_in_flight=6, roles=True, observations=True)
    in_doubt = promised.model_copy(update={"minimum_in_doubt": 1})
    assert session.record("switchover").bounds == promised
    session.injected.append(Fault(name="worker-crash", target="worker-1", at=1.0))
    session.injected.append(Fault(name="isolate", target="region a", at=2.0))
    assert session.record("worker-crash").bounds == in_doubt
    session.injected.reverse()
    assert session.record("worker-crash").bounds == promised


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
        assert plant.caught_by in CHECKS
        assert plant.experiment in EXPERIMENTS


def test_a_patch_waits_for_the_import_of_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "patched_module.py").write_text("answer = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    patched: list[Any] = []
    after_import("patched_module", patched.append)
    assert patched == []
    import patched_module  # type: ignore[import-not-found]

    assert patched == [patched_module]
    del sys.modules["patched_module"]


def answer_of(session: Session) -> str:
    return claims_hold(session.record("x")).answer


def test_a_claim_holds_does_not_hold_or_could_not_be_looked_at(session: Session) -> None:
    def fails(error: Exception) -> Callable[[], str]:
        def look() -> str:
            raise error

        return look

    assert session.claim("fine", lambda: "")
    assert answer_of(session) == "valid"
    assert not session.claim("no answer", fails(Unanswered("no answer")))
    assert not session.claim("no database", fails(NotInjectedError("no database")))
    assert answer_of(session) == "unknown"
    assert not session.claim("wrong", lambda: "region b has become active")
    assert not session.claim("late", fails(TimeoutError("waited 1 s")))
    assert answer_of(session) == "invalid"
    assert [one.held for one in session.claims] == [True, None, None, False, False]
    assert session.record("x").claims[3] == Claim(
        claim="wrong", at=session.claims[3].at, held=False, detail="region b has become active"
    )


def struck(session: Session, where: str = "region a", at: float = 0.0) -> None:
    session.injected.append(Fault(name="isolate", target=where, at=at or time.time() - 10))
    session.active_before = "a"


def test_another_region_takes_over_or_does_not(session: Session) -> None:
    struck(session)
    assert not probes.another_region_is_active(0.01)
    client_of(session).active = "b"
    assert probes.another_region_is_active(1)


def test_the_active_region_stays_where_no_other_becomes_active(session: Session) -> None:
    struck(session)
    assert probes.same_region_is_active(0.01)
    assert probes.no_other_region_takes_over(0.01)
    client_of(session).active = None
    assert probes.no_other_region_takes_over(0.01)
    client_of(session).active = "b"
    assert not probes.no_other_region_takes_over(0.01)
    assert not probes.same_region_is_active(0.01)


def test_a_region_that_is_active_elsewhere_at_the_end_has_not_stayed(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    struck(session)
    monkeypatch.setattr(probes, "_somebody_else", lambda *_: "")
    client_of(session).active = "b"
    assert not probes.same_region_is_active(0.01)


def test_starts_are_accepted_or_refused_by_what_clients_are_told(session: Session) -> None:
    struck(session)
    session.begin_load()
    assert probes.starts_are_accepted(5)
    assert not probes.starts_are_refused(1)
    client_of(session).answers = ["refused"] * 10_000
    session.wait("a refusal", lambda: session.workload and session.workload.operations[-1].outcome == "refused", 5)
    assert probes.starts_are_refused(0.1)
    assert not probes.starts_are_accepted(0.05)


def test_nobody_is_refused_who_does_not_ask(session: Session) -> None:
    assert not probes.starts_are_refused(0.01)


def test_runs_go_on_where_an_operation_is_begun_and_ended(session: Session, place: Manifest) -> None:
    path = place.regions["a"].attempts_dir / "attempts-worker-1.jsonl"
    ahead = time.time() + 60
    lines(path, attempt("run-1", 1, "ended", ahead).model_dump())
    assert not probes.runs_go_on(0.01)
    lines(path, *(attempt("run-1", 1, phase, ahead).model_dump() for phase in ("started", "ended")))
    assert probes.runs_go_on(1)


def told_target(session: Session) -> ToldTarget:
    assert isinstance(session.target, ToldTarget)
    return session.target


def test_a_region_that_returns_is_fenced_when_its_database_is_a_standby(session: Session) -> None:
    struck(session)
    told_target(session).in_recovery = [False, False, True]
    assert probes.returned_region_is_fenced(5)
    told_target(session).in_recovery = [False]
    assert not probes.returned_region_is_fenced(0.01)
    told_target(session).in_recovery = []
    assert not probes.returned_region_is_fenced(0.01)


def test_a_region_whose_effects_came_late_is_not_fenced(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    struck(session)
    old, new, late = (
        effect("run-1", "notes", 1, 1.0, 1, region="a", epoch=3),
        effect("run-2", "notes", 1, 2.0, 2, region="b", epoch=4),
        effect("run-3", "notes", 1, 3.0, 3, region="a", epoch=3),
    )
    monkeypatch.setattr(session.ledger, "effects", lambda: [old, new])
    assert probes.returned_region_is_fenced(1)
    monkeypatch.setattr(session.ledger, "effects", lambda: [old, new, late])
    assert not probes.returned_region_is_fenced(1)
    assert late.key in session.claims[-1].detail


def test_nothing_begins_on_a_deployment_that_is_swamped_by_runs_of_before(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "wait_healthy", lambda seconds: True)
    client_of(session).started = {f"old-{number}": "running" for number in range(51)}
    with pytest.raises(TimeoutError, match="no more than 50 runs of before to be open"):
        probes.deployment_is_healthy(0.05)
    client_of(session).started.pop("old-0")
    assert probes.deployment_is_healthy(0.05)


def test_a_deployment_that_is_whole_again_is_a_claim_only_after_a_fault(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "wait_healthy", lambda seconds: True)
    assert probes.deployment_is_healthy(1)
    assert session.claims == []
    struck(session)
    assert probes.deployment_is_healthy(1)
    assert [one.claim for one in session.claims] == ["both regions are healthy again"]
