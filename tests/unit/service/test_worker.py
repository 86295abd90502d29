"""A worker serves one epoch, leaves when it is over or its sidecar has gone, and says what it left undone."""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
from pydantic_ai_dapr import Attempt
from service import worker
from service.role import Role, RoleFile
from service.worker import (
    EPOCH_IS_OVER,
    SIDECAR_IS_GONE,
    STOOD_STILL,
    STOPPED,
    AttemptLog,
    Pulse,
    Sidecar,
    WorkerConfig,
)
from serving.tracing import Traces

from tests.support.regions import SINCE, write_role

pytestmark = pytest.mark.unit

SERVING = Role(region="a", role="active", epoch=3, since=SINCE)
ATTEMPT = Attempt(
    phase="started",
    run_id="run-1",
    instance_id="run-1",
    ordinal=7,
    key="run-1:7",
    kind="tool",
    name="refund",
    attempt=1,
    at=100.0,
)


class Clock:
    """Time that passes in sleeps alone; `then` happens after each of them."""

    def __init__(self) -> None:
        self.now, self.busy = 1000.0, 0.0
        self.then: Callable[[], object] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.now * self.busy

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < 1100, "nothing happened for a hundred seconds"
        self.then()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(worker, "time", made)
    return made


@pytest.fixture
def role_file(tmp_path: Path) -> RoleFile:
    write_role(tmp_path / "role.json", "active", epoch=3)
    return RoleFile(tmp_path / "role.json")


@pytest.fixture
def config(tmp_path: Path) -> WorkerConfig:
    (tmp_path / "dapr-token").write_text("the-token\n")
    return WorkerConfig.model_validate(
        {
            "region": "a",
            "name": "worker-1",
            "agent": "refund_desk.hosted:hosted",
            "model": "refund_desk:deterministic",
            "dapr": {"grpc_port": 1, "http_port": 2, "app_port": 0, "token_file": str(tmp_path / "dapr-token")},
            "role_file": str(tmp_path / "role.json"),
            "attempts_file": str(tmp_path / "data" / "attempts.jsonl"),
            "payments": {"url": "https://payments", "ca": "ca.crt", "token_file": "token"},
        }
    )


def lines(config: WorkerConfig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in config.attempts_file.read_text().splitlines()]


class TestAttemptLog:
    def test_every_attempt_says_who_made_it(self, config: WorkerConfig) -> None:
        log = AttemptLog(config, epoch=3)
        log(ATTEMPT)
        log(replace(ATTEMPT, phase="ended", outcome="ok", at=101.0))
        started, ended = lines(config)
        assert started == {
            "phase": "started",
            "run_id": "run-1",
            "instance_id": "run-1",
            "ordinal": 7,
            "key": "run-1:7",
            "kind": "tool",
            "name": "refund",
            "attempt": 1,
            "at": 100.0,
            "outcome": None,
            "joined": False,
            "model": None,
            "tokens": None,
            "region": "a",
            "epoch": 3,
            "worker": "worker-1",
            "pid": os.getpid(),
        }
        assert ended == started | {"phase": "ended", "outcome": "ok", "at": 101.0}

    def test_a_worker_that_starts_again_adds_to_the_log(self, config: WorkerConfig) -> None:
        AttemptLog(config, epoch=3)(ATTEMPT)
        AttemptLog(config, epoch=4)(ATTEMPT)
        assert [line["epoch"] for line in lines(config)] == [3, 4]

    def test_what_is_under_way_is_abandoned_and_what_has_ended_is_not(self, config: WorkerConfig, clock: Clock) -> None:
        log = AttemptLog(config, epoch=3)
        log(ATTEMPT)
        log(replace(ATTEMPT, phase="ended", outcome="error"))
        log(replace(ATTEMPT, attempt=2))
        log(replace(ATTEMPT, key="run-2:1"))
        log.abandon()
        assert [(one["key"], one["attempt"], one["phase"], one["outcome"], one["at"]) for one in lines(config)[4:]] == [
            ("run-1:7", 2, "ended", "abandoned", clock.now),
            ("run-2:1", 1, "ended", "abandoned", clock.now),
        ]

    def test_an_attempt_that_was_joined_is_abandoned_once(self, config: WorkerConfig) -> None:
        log = AttemptLog(config, epoch=3)
        log(ATTEMPT)
        log(replace(ATTEMPT, joined=True))
        log.abandon()
        assert [(one["phase"], one["joined"]) for one in lines(config)] == [
            ("started", False),
            ("started", True),
            ("ended", False),
        ]

    def test_nothing_is_written_after_that(self, config: WorkerConfig) -> None:
        log = AttemptLog(config, epoch=3)
        log(ATTEMPT)
        log.abandon()
        late = threading.Thread(target=log, args=(replace(ATTEMPT, phase="ended", outcome="ok"),), daemon=True)
        late.start()
        late.join(0.1)
        assert late.is_alive()
        assert [line["outcome"] for line in lines(config)] == [None, "abandoned"]
        log._lock.release()
        late.join(5)


class TestWaiting:
    @pytest.mark.parametrize("role", ["active", "activating"])
    def test_a_worker_waits_until_its_region_is_active(self, role_file: RoleFile, clock: Clock, role: str) -> None:
        role_file.path.unlink()
        moments = iter(
            [
                lambda: write_role(role_file.path, "standby"),
                lambda: write_role(role_file.path, "standby", epoch=4),
                lambda: write_role(role_file.path, role, epoch=4),
            ]
        )
        clock.then = lambda: next(moments)()
        found = worker.wait_for_activation(role_file)
        assert (found.role, found.epoch) == (role, 4)


class TestWatching:
    @staticmethod
    def left(role_file: RoleFile, alive: Callable[[], bool] = lambda: True) -> list[int]:
        codes: list[int] = []
        worker.watch(role_file, SERVING, alive, codes.append, Pulse())
        return codes

    @pytest.mark.parametrize(
        "change",
        [
            lambda path: write_role(path, "standby", epoch=3),
            lambda path: write_role(path, "active", epoch=4),
            lambda path: path.unlink(),
            lambda path: path.write_text("nonsense"),
        ],
        ids=["standby", "next-epoch", "no-file", "nonsense"],
    )
    def test_a_worker_leaves_at_once_when_its_epoch_is_over(
        self, role_file: RoleFile, clock: Clock, change: Callable[[Path], object]
    ) -> None:
        changed_at: list[float] = []

        def change_once() -> None:
            if clock.now >= 1010 and not changed_at:
                changed_at.append(clock.now)
                change(role_file.path)

        clock.then = change_once
        assert self.left(role_file) == [EPOCH_IS_OVER]
        assert clock.now == changed_at[0]

    def test_a_region_that_has_become_active_is_in_the_same_epoch(self, role_file: RoleFile, clock: Clock) -> None:
        write_role(role_file.path, "activating", epoch=3)
        moments = iter([lambda: write_role(role_file.path, "active", epoch=3), lambda: None, role_file.path.unlink])
        clock.then = lambda: next(moments)()
        assert self.left(role_file) == [EPOCH_IS_OVER]
        assert next(moments, None) is None

    def test_a_worker_leaves_when_its_sidecar_has_gone_for_good(self, role_file: RoleFile, clock: Clock) -> None:
        assert self.left(role_file, lambda: clock.now < 1010) == [SIDECAR_IS_GONE]
        assert 1012 < clock.now < 1015

    def test_a_worker_that_stood_still_leaves_before_it_looks_at_anything(
        self, role_file: RoleFile, clock: Clock
    ) -> None:
        def freeze() -> None:
            if clock.now > 1010:
                clock.now += 3

        clock.then = freeze
        assert self.left(role_file) == [STOOD_STILL]
        assert clock.now < 1014

    def test_a_worker_that_was_slow_stays(self, role_file: RoleFile, clock: Clock) -> None:
        def dawdle() -> None:
            clock.now += 2
            if clock.now > 1020:
                write_role(role_file.path, "standby")

        clock.then = dawdle
        assert self.left(role_file) == [EPOCH_IS_OVER]

    def test_a_worker_that_has_too_much_to_do_stays(self, role_file: RoleFile, clock: Clock) -> None:
        def toil() -> None:
            clock.now += 5
            if clock.now > 1040:
                write_role(role_file.path, "standby")

        clock.busy, clock.then = 0.2, toil
        assert self.left(role_file) == [EPOCH_IS_OVER]

    def test_a_sidecar_that_starts_again_keeps_its_worker(self, role_file: RoleFile, clock: Clock) -> None:
        def end() -> None:
            if clock.now > 1050:
                write_role(role_file.path, "standby")

        clock.then = end
        assert self.left(role_file, lambda: not 1010 < clock.now < 1012) == [EPOCH_IS_OVER]

    def test_the_sidecar_is_asked_about_once_a_second(self, role_file: RoleFile, clock: Clock) -> None:
        asked: list[float] = []

        def end() -> None:
            if clock.now > 1010:
                write_role(role_file.path, "standby")

        clock.then = end
        self.left(role_file, lambda: bool(asked.append(clock.now)) or True)
        assert 9 <= len(asked) <= 11


class TestSidecar:
    @staticmethod
    @contextmanager
    def answering(answer: bytes) -> Iterator[Sidecar]:
        """A server that says `answer` to whoever asks."""
        with socket.create_server(("127.0.0.1", 0)) as server:

            def serve() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            yield Sidecar(grpc_port=1, http_port=server.getsockname()[1], app_port=2, token_file=Path("token"))
            thread.join(5)

    @pytest.mark.parametrize("status", ["204 No Content", "401 Unauthorized", "500 Internal Server Error"])
    def test_any_answer_counts(self, status: str) -> None:
        with self.answering(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()) as sidecar:
            assert worker.sidecar_answers(sidecar)

    @pytest.mark.parametrize("answer", [b"", b"HT", b"\x00\x01\x02\r\n\r\n"], ids=["nothing", "half", "no-http"])
    def test_a_sidecar_that_breaks_off_does_not_answer(self, answer: bytes) -> None:
        with self.answering(answer) as sidecar:
            assert not worker.sidecar_answers(sidecar)

    def test_a_port_that_nobody_listens_on_does_not_answer(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        sidecar = Sidecar(grpc_port=1, http_port=port, app_port=2, token_file=Path("token"))
        assert not worker.sidecar_answers(sidecar)


class Runner:
    """Stands for the workflow runner: notes how it was made, and executes one attempt when it starts."""

    made: dict[str, Any]

    def __init__(self, **arguments: Any) -> None:
        Runner.made = arguments

    def start(self) -> None:
        Runner.made["on_attempt"](ATTEMPT)


class TestWholeWorker:
    @pytest.fixture
    def run(
        self, config: WorkerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
    ) -> Callable[[], int]:
        """The worker's `main`, without sidecar; the status it leaves with."""
        path = tmp_path / "worker.json"
        path.write_text(config.model_dump_json())
        monkeypatch.setattr(worker, "DaprWorkflowAgentRunner", Runner)
        monkeypatch.setattr(worker, "serve_app_channel", lambda port, token, metrics: None)
        monkeypatch.setattr(os, "_exit", self._leave)
        monkeypatch.setenv("DAPR_API_TOKEN", "")

        def run() -> int:
            with pytest.raises(SystemExit) as left:
                sys.exit(worker.main(["--config", str(path)]))
            return left.value.code

        return run

    @staticmethod
    def _leave(code: int) -> None:
        raise SystemExit(code)

    def test_it_executes_runs_until_its_epoch_is_over(
        self,
        run: Callable[[], int],
        config: WorkerConfig,
        role_file: RoleFile,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(worker, "sidecar_answers", lambda sidecar: clock.now > 1005)

        def end() -> None:
            if clock.now > 1010:
                write_role(role_file.path, "active", epoch=4)

        clock.then = end
        assert run() == EPOCH_IS_OVER
        assert (Runner.made["name"], Runner.made["port"], Runner.made["api_token"]) == ("refund-desk", 1, "the-token")
        assert [(line["epoch"], line["outcome"]) for line in lines(config)] == [(3, None), (3, "abandoned")]

    def test_agents_report_their_spans_without_what_is_said_in_them(
        self,
        run: Callable[[], int],
        config: WorkerConfig,
        role_file: RoleFile,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        traced = config.model_copy(update={"traces": Traces(file=tmp_path / "spans.jsonl")})
        (tmp_path / "worker.json").write_text(traced.model_dump_json())
        monkeypatch.setattr(worker, "sidecar_answers", lambda sidecar: True)

        def start(_: Runner) -> None:
            Agent(TestModel(custom_output_text="the answer"), name="desk").run_sync("the secret")
            write_role(role_file.path, "standby")

        monkeypatch.setattr(Runner, "start", start)
        try:
            assert run() == EPOCH_IS_OVER
        finally:
            Agent.instrument_all(False)
        told = (tmp_path / "spans.jsonl").read_text()
        assert "invoke_agent desk" in told
        assert "chat test" in told
        assert '"holdfast.worker","value":{"stringValue":"worker-1"}' in told
        assert "secret" not in told
        assert "the answer" not in told

    def test_it_says_what_it_leaves_undone_when_it_is_told_to_stop(
        self,
        run: Callable[[], int],
        config: WorkerConfig,
        role_file: RoleFile,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(worker, "sidecar_answers", lambda sidecar: True)
        clock.then = lambda: signal.raise_signal(signal.SIGTERM)
        before = signal.getsignal(signal.SIGTERM)
        try:
            assert run() == STOPPED
        finally:
            signal.signal(signal.SIGTERM, before)
        assert [line["outcome"] for line in lines(config)] == [None, "abandoned"]

    def test_what_reached_it_while_it_stood_still_is_not_begun(
        self,
        run: Callable[[], int],
        config: WorkerConfig,
        role_file: RoleFile,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def start(_: Runner) -> None:
            clock.now += 3
            Runner.made["on_attempt"](ATTEMPT)

        monkeypatch.setattr(Runner, "start", start)
        monkeypatch.setattr(worker, "sidecar_answers", lambda sidecar: True)
        assert run() == STOOD_STILL
        assert lines(config) == []

    @pytest.mark.parametrize("role", ["standby", None])
    def test_it_leaves_when_the_epoch_ends_before_the_sidecar_came(
        self,
        run: Callable[[], int],
        config: WorkerConfig,
        role_file: RoleFile,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
        role: str | None,
    ) -> None:
        monkeypatch.setattr(worker, "sidecar_answers", lambda sidecar: False)
        clock.then = lambda: write_role(role_file.path, role) if role else role_file.path.unlink()
        assert run() == EPOCH_IS_OVER
        assert not config.attempts_file.exists()

    def test_it_leaves_with_its_status_also_where_the_log_can_not_be_written(
        self,
        run: Callable[[], int],
        role_file: RoleFile,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def full(self: AttemptLog) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(AttemptLog, "abandon", full)
        monkeypatch.setattr(worker, "sidecar_answers", lambda sidecar: True)
        clock.then = role_file.path.unlink
        assert run() == EPOCH_IS_OVER

    @pytest.mark.filterwarnings("ignore:'service.worker' found in sys.modules:RuntimeWarning")
    def test_it_does_not_start_without_its_file(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "argv", ["worker", "--config", "none.json"])
        with pytest.raises(SystemExit) as exit_:
            runpy.run_module("service.worker", run_name="__main__")
        assert exit_.value.code == 2
        assert "service.worker: none.json: can't be read" in capsys.readouterr().err
