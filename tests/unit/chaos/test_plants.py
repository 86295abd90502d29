"""A planted bug patches what it names, once that is imported, and breaks what it says."""

from __future__ import annotations

import asyncio
import importlib
import os
import runpy
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai_dapr.types import Operation
from refund_desk.effects import HttpEffects
from refund_desk.payments.ledger import Caller, Ledger
from region_agent.activation import RegionProcesses
from region_agent.sweep import Sweeper
from run_index import Acceptance, IndexedRun

from chaos.plants import PLANTS, hook
from chaos.plants.hook import after_import
from infra.local.layout import Layout

pytestmark = pytest.mark.unit
Patch = Callable[[ModuleType], None]


@pytest.fixture
def patches(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Patch]]:
    """What a plant would patch, by module; nothing is patched."""

    def of(plant: str) -> dict[str, Patch]:
        found: dict[str, Patch] = {}
        monkeypatch.setattr(hook, "after_import", found.__setitem__)
        runpy.run_path(str(PLANTS[plant].folder / "sitecustomize.py"))
        return found

    return of


def module(**members: Any) -> Any:
    return SimpleNamespace(**members)


def test_without_the_sweep_no_run_is_signalled(patches: Callable[[str], dict[str, Patch]]) -> None:
    assert callable(Sweeper._signal)
    sweeper = type("Patched", (Sweeper,), {})
    patches("recovery-sweep-off")["region_agent.sweep"](module(Sweeper=sweeper))
    bare = sweeper.__new__(sweeper)
    bare._signal(SimpleNamespace(run_id="run-1"))
    assert not hasattr(bare, "signals")


def test_without_its_key_every_attempt_has_another(
    patches: Callable[[str], dict[str, Patch]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = patches("no-idempotency-key")
    operation = type("Patched", (Operation,), {})
    found["pydantic_ai_dapr.types"](module(Operation=operation))
    one = operation(run_id="run-1", instance_id="run-1", ordinal=3, kind="tool", name="note", attempt=1)
    assert one.key != one.key
    assert one.key.startswith("run-1:")

    waited: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await real(0)

    class Effects(HttpEffects):
        async def apply(self, kind: Any, payload: Any) -> Any:
            return {"did": kind}

    found["refund_desk.effects"](module(HttpEffects=Effects))
    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert asyncio.run(Effects.__new__(Effects).apply("notes", {})) == {"did": "notes"}
    assert waited == [1.0]


def test_a_refund_is_sent_twice_under_two_keys_and_all_else_once(patches: Callable[[str], dict[str, Patch]]) -> None:
    sent: list[tuple[str, str]] = []

    class Client:
        async def post(self, url: str, *, json: Any, headers: dict[str, str]) -> str:
            sent.append((url, headers["Idempotency-Key"]))
            return "answer"

    patches("effect-runs-twice")["refund_desk.effects"](module(httpx=module(AsyncClient=Client)))
    for url in ("/refunds", "/notes"):
        assert asyncio.run(Client().post(url, json={}, headers={"Idempotency-Key": "run-1:4"})) == "answer"
    assert sent == [("/refunds", "run-1:4:again"), ("/refunds", "run-1:4"), ("/notes", "run-1:4")]


@pytest.mark.parametrize("plant", PLANTS)
def test_what_a_plant_patches_exists(patches: Callable[[str], dict[str, Patch]], plant: str) -> None:
    for name in patches(plant):
        assert importlib.import_module(name)


def test_other_imports_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("plain_module", "awaited_module"):
        (tmp_path / f"{name}.py").write_text("answer = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    patched: list[str] = []
    after_import("awaited_module", lambda module: patched.append(module.__name__))
    for name in ("plain_module", "awaited_module"):
        importlib.import_module(name)
        del sys.modules[name]
    assert patched == ["awaited_module"]


def test_a_module_that_is_not_there_stays_an_import_error() -> None:
    after_import("no_such_module_anywhere", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        importlib.import_module("no_such_module_anywhere")


def test_an_effects_key_is_forgotten_until_long_after_it_was_applied(
    patches: Callable[[str], dict[str, Patch]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later: list[Callable[[], None]] = []

    class Timer:
        def __init__(self, seconds: float, act: Callable[..., None], arguments: tuple[Any, ...]) -> None:
            assert seconds > 15
            later.append(lambda: act(*arguments))

        def start(self) -> None:
            """It is said when."""

    monkeypatch.setattr(threading, "Timer", Timer)
    patched = type("Patched", (Ledger,), {})
    patches("effect-before-record")["refund_desk.payments.ledger"](module(Ledger=patched))
    ledger = patched(tmp_path / "ledger.sqlite")
    caller = Caller(key="run-1:3", run_id="run-1", region="a", epoch=1, worker="w", attempt=1)
    note: dict[str, Any] = {"ticket_id": "T-1", "text": "a note"}
    assert [ledger.attempt("notes", caller, note).outcome for _ in range(2)] == ["applied", "applied"]
    for remember in later:
        remember()
    assert ledger.attempt("notes", caller, note).outcome == "duplicate"
    ledger.close()


def test_another_process_has_another_key(
    patches: Callable[[str], dict[str, Patch]], monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = type("Patched", (Operation,), {})
    patches("key-of-the-process")["pydantic_ai_dapr.types"](module(Operation=operation))
    one = operation(run_id="run-1", instance_id="run-1", ordinal=3, kind="tool", name="note", attempt=1)
    monkeypatch.setattr(os, "getpid", lambda: 7)
    assert one.key == "run-1:3:7"


def test_a_tool_is_answered_though_its_effect_is_never_applied(patches: Callable[[str], dict[str, Patch]]) -> None:
    class Effects(HttpEffects):
        async def apply(self, kind: Any, payload: Any) -> Any:
            raise AssertionError("it is too early")

    patches("answered-before-applied")["refund_desk.effects"](module(HttpEffects=Effects, decide=lambda *_: {"did": 1}))
    assert asyncio.run(Effects.__new__(Effects).apply("notes", {})) == {"did": 1}


def test_a_commit_waits_for_nobody(patches: Callable[[str], dict[str, Patch]]) -> None:
    found = module(dynamic=lambda layout: {"postgresql": {"parameters": {"wal_level": layout}}})
    patches("asynchronous-replication")["infra.local.postgres"](found)
    parameters = found.dynamic("replica")["postgresql"]["parameters"]
    assert parameters == {"wal_level": "replica", "synchronous_commit": "local"}


@pytest.mark.parametrize("plant", ["old-region-goes-on", "fencing-off"])
def test_the_old_region_stops_nothing(
    patches: Callable[[str], dict[str, Patch]], plant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = patches(plant)
    processes = type("Patched", (RegionProcesses,), {})
    found["region_agent.activation"](module(RegionProcesses=processes))
    roles: list[tuple[str, int]] = []
    bare = processes.__new__(processes)
    bare.role_file = SimpleNamespace(write=lambda role, epoch: roles.append((role, epoch)))  # type: ignore[assignment]
    asyncio.run(bare.deactivate(4))
    assert roles == [("standby", 4)]
    assert not hasattr(bare, "supervisor")
    for program, told in (
        ("service.worker", ["standby", "active", "active"]),
        ("service", ["standby", "active", "standby"]),
    ):
        monkeypatch.setattr(sys, "orig_argv", ["python", "-m", program])
        said = iter(["standby", "active", "standby"])
        role_file = type("RoleFile", (), {"read": lambda self, said=said: SimpleNamespace(role=next(said))})
        found["service.role"](module(RoleFile=role_file))
        assert [role_file().read().role for _ in range(3)] == told  # type: ignore[attr-defined]


def test_an_effect_of_an_epoch_that_is_over_is_taken(
    patches: Callable[[str], dict[str, Patch]], tmp_path: Path
) -> None:
    patched = type("Patched", (Ledger,), {})
    patches("fencing-off")["refund_desk.payments.ledger"](module(Ledger=patched))
    ledger = patched(tmp_path / "ledger.sqlite")
    note: dict[str, Any] = {"ticket_id": "T-1", "text": "a note"}
    callers = [Caller(f"run-1:{n}", "run-1", "a", epoch, "w", 1) for n, epoch in ((1, 2), (2, 1))]
    assert [ledger.attempt("notes", caller, note).outcome for caller in callers] == ["applied", "applied"]
    assert [entry.epoch for entry in ledger.entries()] == [2, 1], "the record tells the truth"
    ledger.close()


def test_what_region_a_sends_is_late_and_has_its_processs_key(
    patches: Callable[[str], dict[str, Patch]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = patches("fencing-off")
    operation = type("Patched", (Operation,), {})
    found["pydantic_ai_dapr.types"](module(Operation=operation))
    one = operation(run_id="run-1", instance_id="run-1", ordinal=3, kind="tool", name="note", attempt=1)
    assert one.key == f"run-1:3:{os.getpid()}"

    class Effects:
        def __init__(self, region: str) -> None:
            self.config = SimpleNamespace(region=region)

        async def apply(self, kind: str, payload: Any) -> str:
            return kind

    waited: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await real(0)

    found["refund_desk.effects"](module(HttpEffects=Effects))
    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert [asyncio.run(Effects(region).apply("notes", {})) for region in ("a", "b")] == ["notes", "notes"]
    assert waited == [5.0]


def test_a_model_that_fails_completes_its_run(patches: Callable[[str], dict[str, Patch]]) -> None:
    found = patches("swallowed-model-error")
    model = module(_next_calls=lambda messages, tool: [tool])
    found["refund_desk.model"](model)

    def ask(ticket: str) -> Any:
        part = SimpleNamespace(content=f"Ticket: {ticket}\nCustomer: x")
        return model._next_calls([SimpleNamespace(parts=[part])], "final_result")

    assert ask("T-1001") == ["final_result"]
    with pytest.raises(ModelHTTPError):
        ask("T-1004")

    class Runner:
        async def _agent_run(self, hosted: Any, run_input: Any) -> dict[str, Any]:
            return ask(run_input)

    found["pydantic_ai_dapr.runner"](module(DaprWorkflowAgentRunner=Runner))
    assert asyncio.run(Runner()._agent_run(None, "T-1001")) == ["final_result"]
    assert str(asyncio.run(Runner()._agent_run(None, "T-1004"))["output"]).startswith("error: status_code: 400")


def test_region_b_alone_has_another_root(patches: Callable[[str], dict[str, Patch]], tmp_path: Path) -> None:
    asked: list[tuple[str, Path]] = []
    found = module(
        Layout=Layout,
        write_files=lambda layout, region: asked.append((region, layout.pki)),
        processes=lambda layout, region: asked.append((region, layout.ca)),
        dsn=lambda layout, region: layout.ca,
    )
    patches("wrong-root")["infra.local.dapr"](found)
    settings = SimpleNamespace(directory=tmp_path)
    layout = Layout(settings, None, None)  # type: ignore[arg-type]
    for region in ("a", "b"):
        found.write_files(layout, region)
        found.processes(layout, region)
    assert asked == [
        ("a", tmp_path / "pki"),
        ("a", tmp_path / "pki" / "root.crt"),
        ("b", tmp_path / "pki-of-b"),
        ("b", tmp_path / "pki-of-b" / "root.crt"),
    ]
    assert found.dsn(layout, "b") == tmp_path / "pki" / "root.crt"


def test_an_identifier_is_another_one_each_time(patches: Callable[[str], dict[str, Patch]]) -> None:
    run = type("Run", (), {})
    patches("random-identifiers")["pydantic_ai_dapr.run"](module(LiveRun=run))
    assert run().uuid() != run().uuid()  # type: ignore[attr-defined]


def test_sidecars_do_not_sign(patches: Callable[[str], dict[str, Patch]]) -> None:
    found = module(_sidecar=lambda: {"spec": {"features": ["signing"], "tracing": {}}})
    patches("signatures-off")["infra.local.dapr"](found)
    assert found._sidecar() == {"spec": {"features": [], "tracing": {}}}


def test_a_start_is_acknowledged_before_anything_is_written(
    patches: Callable[[str], dict[str, Patch]], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Any] = []

    class Timer:
        def __init__(self, seconds: float, act: Any, arguments: Any, more: Any) -> None:
            assert seconds > 1

        def start(self) -> None:
            """Its time doesn't come."""

    class Index:
        def accept(self, *given: Any, **more: Any) -> None:
            written.append(given)

    monkeypatch.setattr(threading, "Timer", Timer)
    patches("acknowledged-before-committed")["run_index.index"](
        module(RunIndex=Index, IndexedRun=IndexedRun, Acceptance=Acceptance)
    )
    accepted: Any = Index().accept("run-1", {"prompt": "x"}, agent="desk")
    assert (accepted.outcome, accepted.run.run_id, accepted.run.status, written) == ("created", "run-1", "accepted", [])


def test_a_recovery_sets_no_timer_again(patches: Callable[[str], dict[str, Patch]]) -> None:
    found = patches("timers-not-reissued")

    class Run:
        def __init__(self) -> None:
            self.steps = {1: SimpleNamespace(reissued=False, kind="call"), 2: Timer()}

        def _reissue(self, token: object) -> None:
            issued.extend(step for step in self.steps.values() if not step.reissued)

    class Timer(SimpleNamespace):
        reissued = False

    issued: list[Any] = []
    found["pydantic_ai_dapr.run"](module(LiveRun=Run, Timer=Timer))
    run = Run()
    run._reissue("epoch 2")
    assert issued == [run.steps[1]]
    assert not run.steps[2].reissued

    class Effects(HttpEffects):
        async def apply(self, kind: Any, payload: Any) -> Any:
            return {"did": kind}

    attempts = [1, 2, 1]
    operation = SimpleNamespace(attempt=0)

    def current() -> Any:
        operation.attempt = attempts.pop(0)
        return operation

    found["refund_desk.effects"](module(HttpEffects=Effects, current_operation=current))
    effects = Effects.__new__(Effects)
    with pytest.raises(ConnectionError):
        asyncio.run(effects.apply("notes", {}))
    assert asyncio.run(effects.apply("notes", {})) == {"did": "notes"}
    assert asyncio.run(effects.apply("refunds", {})) == {"did": "refunds"}

    retry = type("Retry", (), {})
    found["pydantic_ai_dapr.retry"](module(Retry=retry))
    error = SimpleNamespace(retryable=True)
    assert [retry().delay(attempt, error) for attempt in (1, 3)] == [10.0, None]  # type: ignore[attr-defined]


def test_every_open_run_is_woken_at_each_look_by_a_new_call(patches: Callable[[str], dict[str, Patch]]) -> None:
    class Sweeper:
        signalled: ClassVar[list[str]] = []

        def _signal(self, run: str) -> None:
            self.signalled.append(run)

    patches("recover-heeded-twice")["region_agent.sweep"](module(Sweeper=Sweeper))
    one: Any = Sweeper()
    one.epoch = 3
    assert one.epoch != one.epoch
    one._judge("run-1", "running")
    assert one.signalled == ["run-1"]


class Decided:
    """Remembers the decisions that runs are given."""

    def __init__(self) -> None:
        self.given: list[tuple[str, str, bool]] = []

    def approve(self, run_id: str, call: str, *, approved: bool) -> None:
        self.given.append((run_id, call, approved))


def test_a_decision_is_given_twice(patches: Callable[[str], dict[str, Patch]]) -> None:
    patched = type("Patched", (Decided,), {})
    patches("decision-given-twice")["pydantic_ai_dapr.client"](module(AgentRunClient=patched))
    client = patched()
    client.approve("run-1", "call-1", approved=True)
    assert client.given == [("run-1", "call-1", True)] * 2


def test_a_decision_is_acknowledged_and_given_later(
    patches: Callable[[str], dict[str, Patch]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Later:
        """A timer that is over when the test says so."""

        waiting: ClassVar[list[Callable[[], None]]] = []
        daemon = False

        def __init__(self, seconds: float, act: Callable[..., None], given: tuple[Any, ...], named: Any) -> None:
            assert seconds == 10.0
            self._act = lambda: act(*given, **named)

        def start(self) -> None:
            assert self.daemon
            self.waiting.append(self._act)

    monkeypatch.setattr(threading, "Timer", Later)
    patched = type("Patched", (Decided,), {})
    patches("decision-given-late")["pydantic_ai_dapr.client"](module(AgentRunClient=patched))
    client = patched()
    client.approve("run-1", "call-1", approved=False)
    assert client.given == []
    Later.waiting[0]()
    assert client.given == [("run-1", "call-1", False)]
