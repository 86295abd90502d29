"""What people do in an experiment is recorded try by try, and a decision is given until it has its answer."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from holdfast.client import NotAnsweredError, RefusedError, RunView, Start, WaitingView
from pydantic import JsonValue

from chaos import people, supervisors
from chaos import session as sessions
from chaos.checks import CHECKS, judge
from chaos.history import Fault, History, Intrusion, Signal
from chaos.record import record_workflows
from chaos.session import Session
from chaos.supervisors import Supervisors
from chaos.verdict import CheckResult
from chaos.workload import Workload
from infra.doors import Unanswered
from infra.manifest import Manifest
from tests.support.deployments import manifest
from tests.support.histories import region_loss, run_id, tickets

pytestmark = pytest.mark.unit


@dataclass
class Client:
    """Accepts every start; held runs wait for one call, and decisions are answered as a test says."""

    answers: list[str] = field(default_factory=list)
    started: dict[str, Any] = field(default_factory=dict)
    decided: list[tuple[str, str, bool]] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    status: str = "failed"
    error: str | None = "DAPR_WORKFLOW_HISTORY_TAMPERED"

    def start(self, run_id: str, run_input: Mapping[str, JsonValue]) -> Start:
        self.started[run_id] = run_input
        return Start("ok", "a", "")

    def waiting(self, run_id: str) -> list[WaitingView]:
        if run_id in self.silent:
            raise NotAnsweredError("nobody")
        held = self.started.get(run_id, {}).get("hold_seconds")
        return [WaitingView(tool_call_id=f"call-{run_id}", tool="await_supervisor")] if held else []

    def approve(self, run_id: str, call_id: str, *, approved: bool, who: str) -> Start:
        self.decided.append((run_id, call_id, approved))
        outcome: Any = self.answers.pop(0) if self.answers else "ok"
        return Start(outcome, "b", "told")

    def run(self, run_id: str) -> RunView | None:
        return RunView(run_id=run_id, status=self.status, accepted_at="", error=self.error)

    def active_region(self) -> str | None:
        return "a"

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def session(tmp_path: Any, client: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    made = manifest(tmp_path)
    made.api_token_file.parent.mkdir(parents=True)
    made.api_token_file.write_text("token")
    monkeypatch.setattr(sessions, "HoldfastClient", lambda *_, **__: client)
    monkeypatch.setattr(sessions, "Ledger", lambda _: client)
    monkeypatch.setattr(sessions, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(supervisors, "RETRY_SECONDS", 0.001)
    session = Session(made, runs=4, pace=60)
    session.workload = Workload(client, tickets(), "p-", 0, 60)  # type: ignore[arg-type]
    sessions.use(session)
    yield session
    sessions.use(None)
    session.close()


def test_held_runs_wait_for_a_supervisor_and_are_decided_one_after_the_other(session: Session, client: Client) -> None:
    assert people.hold_runs(3, 90.0, 1.0)
    assert [one["hold_seconds"] for one in client.started.values()] == [90.0] * 3
    assert people.decide_held_runs(0.0) == {"to-decide": 3}
    assert session.supervisors is not None
    signals = session.supervisors.finish()
    assert sorted(approved for _, _, approved in client.decided) == [False, True, True]
    assert {one.outcome for one in signals} == {"ok"}
    assert {one.run_id for one in signals} == set(session.held)
    assert session.promised == {"signals": 3}
    assert session.promised.get("timers") is None


def test_runs_that_do_not_wait_in_time_are_told(session: Session, client: Client) -> None:
    client.silent = {"p-0001-T-1002"}
    assert not people.hold_runs(3, 90.0, 0.01, decided=False)
    assert session.promised == {"timers": 3}


def test_a_decision_without_an_answer_is_sent_again_and_every_try_recorded(client: Client) -> None:
    client.answers = ["unknown", "unknown", "refused"]
    sent = Supervisors(client)  # type: ignore[arg-type]
    sent.decide({"run-1": "c1"}, 0.0)
    assert [one.outcome for one in sent.finish()] == ["unknown", "unknown", "refused"]
    assert client.decided == [("run-1", "c1", True)] * 3


@pytest.mark.usefixtures("session")
def test_a_decision_is_given_up_after_its_time(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisors, "TRY_SECONDS", 0.02)
    client.answers = ["unknown"] * 1000
    sent = Supervisors(client)  # type: ignore[arg-type]
    sent.decide({"run-1": "c1"}, 0.0)
    assert {one.outcome for one in sent.finish()} == {"unknown"}


def test_a_burst_starts_many_times_the_load(session: Session, client: Client) -> None:
    told = people.start_a_burst(3)
    assert (told["started"], told["accepted"], len(client.started)) == (12, 12, 12)
    assert session.injected[0].proven


def test_a_start_everywhere_asks_every_region_several_times(
    session: Session, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Insistent(Client):
        def __init__(self, region: str, *_: object) -> None:
            super().__init__()
            self.region = region

        def start(self, run_id: str, run_input: Mapping[str, JsonValue]) -> Start:
            return Start("ok" if self.region == "a" else "unknown", self.region, "")

    monkeypatch.setattr(people, "_Insistent", Insistent)
    told = people.start_everywhere(2, 3)
    assert told == {"runs": 2, "accepted": 2, "starts-ok": 6, "starts-unknown": 6}
    assert session.injected[0].proven


def test_who_insists_takes_its_region_for_the_active_one(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl.create_default_context", lambda **_: True)
    insistent = people._Insistent("b", "https://b", session.manifest, "token")
    assert insistent.active_region() == "b"
    insistent.close()


@pytest.mark.parametrize(
    ("act", "place"),
    [
        (people.knock_at_every_door, "intrusions"),
        (people.send_impostor_sidecars, "impostors"),
        (people.purge_a_live_run, "purge"),
        (people.call_denied_tools, "denied_calls"),
    ],
)
def test_each_intrusion_is_recorded_and_an_open_door_breaks_the_claim(
    session: Session, monkeypatch: pytest.MonkeyPatch, act: Any, place: str
) -> None:
    tried = [
        Intrusion(name="who", door="the door", expected="401", observed=told, refused=told == "401")
        for told in ("401", "200")
    ]
    session.held = ["run-1"]
    monkeypatch.setattr(people, place, lambda *_: tried)
    assert act() == {"tried": 2, "refused": 1}
    assert session.intrusions == tried
    assert session.promised == {"intrusions": 2}
    assert [(one.held, one.detail) for one in session.claims] == [(False, "who at the door: 200")]
    monkeypatch.setattr(people, place, lambda *_: tried[:1])
    act()
    assert session.claims[-1].held


@pytest.mark.parametrize(("code", "said", "held"), [(2, "holdfast:lease.ttl: found 5", True), (0, "done", False)])
def test_a_wrong_setting_has_to_be_refused_by_its_name(
    session: Session, monkeypatch: pytest.MonkeyPatch, code: int, said: str, held: bool
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, code, "", said)

    monkeypatch.setattr(people.subprocess, "run", run)
    assert people.configure_wrongly("lease.ttl=5")["exit-code"] == code
    assert asked[0][1:4] == ["up", "--stack", session.manifest.directory.name]
    assert session.claims[0].held is held


@pytest.mark.parametrize(
    ("told", "held"),
    [("no answer: certificate has expired", True), ("no answer in time", False), (None, False)],
)
def test_an_expired_certificate_has_to_be_named(
    session: Session, monkeypatch: pytest.MonkeyPatch, told: str | None, held: bool
) -> None:
    class Doors:
        def __init__(self, _: Manifest) -> None: ...
        def __enter__(self) -> Doors:
            return self

        def __exit__(self, *_: object) -> None: ...
        def api_role(self, _: str) -> dict[str, str]:
            if told is None:
                return {}
            raise Unanswered(told)

    monkeypatch.setattr(people, "Doors", Doors)
    session.injected.append(Fault(name="expire-certificate", target="region b", at=1.0, proven=True))
    assert people.certificate_is_named() is held


@pytest.mark.parametrize(
    ("status", "error", "held"),
    [
        ("failed", "DAPR_WORKFLOW_HISTORY_TAMPERED: …", True),
        ("failed", "the model is gone", False),
        ("completed", None, False),
        ("running", None, False),
    ],
)
def test_a_run_that_was_tampered_with_has_to_fail_for_that_reason(
    session: Session, client: Client, status: str, error: str | None, held: bool
) -> None:
    client.status, client.error = status, error
    session.injected.append(Fault(name="tamper-history", target="region a", at=1.0, evidence={"tampered": "run-1"}))
    assert people.tampered_run_is_refused(0.05) is held


class TestOutcomes:
    """K10 knows what supervisors decided, and which run has to fail."""

    def judged(self, history: History) -> CheckResult:
        checks: Any = CHECKS
        every = checks.values() if isinstance(checks, dict) else checks
        return next(found for check in every if (found := check(history)) is not None and found.check == "K10")

    def held(self, *signals: tuple[bool, str]) -> History:
        """A history of one held run, which decided as if it had been released."""
        history = region_loss()
        first = history.operations[0]
        history.operations[0] = first.model_copy(update={"ticket": first.ticket | {"hold_seconds": 60}})
        history.signals = [
            Signal.model_validate(
                {"run_id": run_id(0), "call_id": "c", "approved": approved, "outcome": outcome}
                | {"invoked_at": 1, "answered_at": 2, "region": "a"}
            )
            for approved, outcome in signals
        ]
        return history

    @pytest.mark.parametrize(
        ("signals", "answer"),
        [
            ([(True, "ok")], "valid"),
            ([(True, "unknown"), (True, "ok")], "valid"),
            ([(True, "unknown")], "valid"),
            ([(False, "ok")], "invalid"),
            ([(True, "refused")], "invalid"),
            ([], "invalid"),
        ],
    )
    def test_a_held_run_decides_as_its_supervisor_did(self, signals: list[tuple[bool, str]], answer: str) -> None:
        assert self.judged(self.held(*signals)).answer == answer

    @pytest.mark.parametrize(("status", "answer"), [("failed", "valid"), ("completed", "invalid")])
    def test_a_run_that_was_tampered_with_has_to_fail(self, status: str, answer: str) -> None:
        history = region_loss()
        assert history.workflows is not None
        history.workflows[0] = history.workflows[0].model_copy(update={"status": status})
        history.faults.append(
            Fault(name="tamper-history", target="region a", at=1.0, evidence={"tampered": run_id(0)}, proven=True)
        )
        assert self.judged(history).answer == answer


@pytest.mark.parametrize("check", ["K2", "K3"])
def test_the_history_of_a_run_that_was_tampered_with_is_no_evidence_against_anybody(check: str) -> None:
    history = region_loss()
    assert history.workflows is not None
    history.workflows[0] = history.workflows[0].model_copy(update={"status": "failed", "output": None, "history": []})

    def judged() -> str:
        return next(found.answer for found in judge(history) if found.check == check)

    assert judged() == "invalid"
    history.faults.append(
        Fault(
            name="tamper-history",
            target="region a",
            at=history.faults[0].at,
            evidence={"tampered": run_id(0)},
            proven=True,
        )
    )
    assert judged() == "valid"


def test_a_run_that_its_region_refuses_for_good_is_one_that_failed() -> None:
    class Refusing:
        def run(self, run_id: str) -> RunView:
            raise RefusedError(410, "signature verification failed")

    (one,) = record_workflows(Refusing(), ["run-1"])  # type: ignore[arg-type]
    assert (one.status, one.error, one.history) == ("failed", "signature verification failed", [])


def test_a_tampered_run_may_be_refused_by_its_region(
    session: Session, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run_id: str) -> RunView:
        raise RefusedError(410, "workflow history signature verification failed for 'run-1'")

    monkeypatch.setattr(client, "run", refuse)
    session.injected.append(Fault(name="tamper-history", target="region a", at=1.0, evidence={"tampered": "run-1"}))
    assert people.tampered_run_is_refused(0.05)
