"""Runs on a real sidecar that signs: exported, verified, replayed in a process without a sidecar, and run again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai_dapr import (
    AgentRunClient,
    Attempt,
    ChildAgent,
    ChildAgents,
    DaprDurability,
    DaprWorkflowAgentRunner,
    Export,
    Retry,
    RunFailedError,
    WorkflowUnavailableError,
    start_together,
    steps,
    verify,
)
from pydantic_ai_dapr.__main__ import main

from tests.component.dapr_stack import API_TOKEN, until
from tests.component.database import Database
from tests.component.run_index.conftest import server
from tests.component.signed_stack import APP_ID, SIGNER, SignedStack, signed_stack

pytestmark = pytest.mark.component

__all__ = ["server"]

NAME = "shopper"
SHOPPERS = f"tests.component.pydantic_ai_dapr.{Path(__file__).stem}"


def shopper(away: list[int] | None = None, held: list[threading.Event] | None = None) -> Agent[None, str]:
    """Buys three things, two of them side by side.

    The model is away for the requests whose numbers are in `away`, and waits for what is in `held`.
    """

    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        for event in held or ():
            await asyncio.to_thread(event.wait, 30)
        made = sum(isinstance(message, ModelResponse) for message in messages)
        if away and made in away:
            raise ModelHTTPError(503, "m")
        turns = [[("buy", "milk")], [("buy", "bread"), ("buy", "tea")]]
        if made < len(turns):
            return ModelResponse(parts=[ToolCallPart(name, {"what": what}) for name, what in turns[made]])
        return ModelResponse(parts=[TextPart("bought")])

    durability = DaprDurability(retry=Retry(attempts=2, first_seconds=0.1))
    agent = Agent(FunctionModel(answer), name=NAME, capabilities=[durability])

    @agent.tool_plain
    def buy(what: str) -> str:
        return f"some {what}"

    return agent


@dataclass
class Shop:
    """A worker in this process, and what it executed."""

    stack: SignedStack
    away: list[int] = field(default_factory=list)
    held: list[threading.Event] = field(default_factory=list)
    segment_answers: int = 100
    attempts: list[Attempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        port = self.stack.sidecars[0].grpc_port
        self.runner = DaprWorkflowAgentRunner(
            shopper(self.away, self.held),
            port=port,
            api_token=API_TOKEN,
            on_attempt=self.attempts.append,
            segment_answers=self.segment_answers,
        )
        self.client = AgentRunClient(NAME, port=port, api_token=API_TOKEN)

    def keys(self, instance_id: str) -> list[str]:
        """The idempotency keys of what was executed for an instance, in order."""
        ended = [attempt for attempt in self.attempts if attempt.phase == "ended"]
        return sorted({attempt.key for attempt in ended if attempt.instance_id == instance_id})

    def hold(self, run_id: str, until_set: threading.Event) -> str:
        """Start a run whose first model request lasts until `until_set`, and return when it is asked."""
        self.held[:] = [until_set]
        self.runner.schedule("go", run_id=run_id)
        until("the first request", lambda: run_id in [attempt.instance_id for attempt in self.attempts])
        return run_id

    def export(self, run_id: str) -> Export:
        return self.client.export(run_id, self.stack.store())


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, server: Database) -> Iterator[SignedStack]:
    with signed_stack(tmp_path_factory.mktemp("stack"), server.dsn) as started:
        yield started


@pytest.fixture
def shop(stack: SignedStack, request: pytest.FixtureRequest) -> Iterator[Shop]:
    made = Shop(stack, segment_answers=getattr(request, "param", 100))
    made.runner.start()
    yield made
    made.runner.shutdown()
    made.client.close()


def keys(run_id: str, *ordinals: int) -> list[str]:
    return [f"{run_id}:{ordinal}" for ordinal in ordinals]


def replay_elsewhere(file: Path, agent: str = "shopper") -> subprocess.CompletedProcess[str]:
    """In a process that knows no sidecar."""
    command = [sys.executable, "-m", "pydantic_ai_dapr", "replay", str(file), "--agent", f"{SHOPPERS}:{agent}"]
    environment = {"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": os.environ["PATH"]}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def other_shopper() -> Agent[None, str]:
    agent = shopper()
    agent.instructions(lambda: "be thrifty")
    return agent


def test_a_run_is_proven_and_replayed_where_no_sidecar_is(shop: Shop, tmp_path: Path) -> None:
    shop.runner.run_sync("go", run_id="plain")
    export = shop.export("plain")
    export.save(tmp_path / "plain.json")
    found = verify(Export.load(tmp_path / "plain.json"), shop.stack.root, SIGNER)
    assert (found.reason, found.signers, found.ended) == (None, (SIGNER,), True)
    assert len(export.signatures) > 3
    same = replay_elsewhere(tmp_path / "plain.json")
    assert (same.returncode, same.stderr) == (0, "")
    other = replay_elsewhere(tmp_path / "plain.json", "other_shopper")
    assert other.returncode == 1
    assert "the code does something else at event 2, operation 1" in other.stdout


def test_one_changed_byte_of_one_result_is_found(shop: Shop) -> None:
    shop.runner.run_sync("go", run_id="tampered")
    export = shop.export("tampered")
    position = next(n for n, one in enumerate(export.recorded) if b"some milk" in one)
    recorded = list(export.recorded)
    recorded[position] = recorded[position].replace(b"some milk", b"some silk")
    found = verify(Export.of("tampered", recorded, export.signatures, export.certificates), shop.stack.root)
    assert not found.valid
    assert found.proven <= position
    assert export.events[position].type == "taskCompleted"


def test_without_the_state_store_an_export_replays_and_proves_nothing(shop: Shop) -> None:
    shop.runner.run_sync("go", run_id="unproven")
    export = shop.client.export("unproven")
    assert shop.runner.replay(export).same
    assert verify(export, shop.stack.root).reason == "the export has no signatures"
    assert export.events == shop.export("unproven").events


def test_a_rerun_executes_everything_under_the_same_keys(shop: Shop) -> None:
    shop.runner.run_sync("go", run_id="whole")
    again = shop.client.rerun("whole")
    assert again == "whole~2"
    assert shop.runner.wait(again).output == "bought"
    assert shop.keys(again) == shop.keys("whole") == keys("whole", 1, 2, 3, 4, 5, 6)
    export = shop.export(again)
    assert verify(export, shop.stack.root, SIGNER).valid
    assert shop.runner.replay(export).same
    assert shop.client.rerun(again) == "whole~3"


def test_a_fresh_rerun_executes_everything_under_keys_of_its_own(shop: Shop) -> None:
    shop.runner.run_sync("go", run_id="fresh")
    again = shop.client.rerun("fresh", fresh=True)
    assert shop.runner.wait(again).output == "bought"
    assert shop.keys(again) == keys("fresh~2", 1, 2, 3, 4, 5, 6)
    with pytest.raises(ValueError, match="keeps the logical run id"):
        shop.client.rerun("fresh", step=2, fresh=True)


@pytest.mark.parametrize(("step", "executed"), [(1, (1, 2, 3, 4, 5, 6)), (3, (3, 4, 5, 6)), (6, (6,))])
def test_a_rerun_from_a_step_keeps_the_answers_before_it(shop: Shop, step: int, executed: tuple[int, ...]) -> None:
    run_id = f"from-{step}"
    shop.runner.run_sync("go", run_id=run_id)
    again = shop.client.rerun(run_id, step=step)
    assert shop.runner.wait(again).output == "bought"
    assert shop.keys(again) == keys(run_id, *executed)
    export = shop.export(again)
    assert [one.ordinal for one in steps(export.events)] == [1, 2, 3, 4, 5, 6]
    found = verify(export, shop.stack.root, SIGNER)
    assert (found.valid, found.reason) == (True, None)
    assert shop.runner.replay(export).same


def test_a_rerun_from_one_of_two_operations_side_by_side_executes_both(shop: Shop) -> None:
    shop.runner.run_sync("go", run_id="beside")
    again = shop.client.rerun("beside", step=5)
    assert shop.runner.wait(again).output == "bought"
    assert shop.keys(again) == keys("beside", 4, 5, 6)
    assert shop.runner.replay(shop.export(again)).same


def test_a_failed_run_goes_on_from_the_step_that_failed_it(shop: Shop) -> None:
    shop.away.append(2)
    with pytest.raises(RunFailedError, match="503"):
        shop.runner.run_sync("go", run_id="failed")
    export = shop.export("failed")
    assert [(one.ordinal, one.attempt) for one in steps(export.events)][-2:] == [(6, 1), (6, 2)]
    assert verify(export, shop.stack.root, SIGNER).valid
    assert shop.runner.replay(export).same
    shop.away.clear()
    again = shop.client.rerun("failed", step=6)
    assert shop.runner.wait(again).output == "bought"
    assert shop.keys(again) == keys("failed", 6)
    assert [one.attempt for one in steps(shop.client.history(again))] == [1] * 6
    # What was retried before the step that it goes on from, with a timer that had fired, is kept too.
    shop.away.append(0)
    retried = shop.client.rerun("failed")
    until("the first attempt", lambda: any(a.instance_id == retried and a.phase == "ended" for a in shop.attempts))
    shop.away.clear()
    assert shop.runner.wait(retried).output == "bought"
    assert (1, 2) in [(one.ordinal, one.attempt) for one in steps(shop.client.history(retried))]
    twice = shop.client.rerun(retried, step=6)
    assert shop.runner.wait(twice).output == "bought"
    assert shop.keys(twice) == keys("failed", 6)
    assert shop.runner.replay(shop.export(twice)).same


def test_runs_that_were_signalled_left_unfinished_or_terminated_replay_too(shop: Shop) -> None:
    held = threading.Event()
    run_id = shop.hold("unfinished", held)
    shop.client.recover(run_id)
    until("the signal's effect", lambda: [one.issued for one in steps(shop.client.history(run_id))] == [2])
    unfinished = shop.export(run_id)
    assert shop.runner.replay(unfinished).same
    assert verify(unfinished, shop.stack.root, SIGNER).valid
    with pytest.raises(ValueError, match="run unfinished is running; only a run that has ended can be run again"):
        shop.client.rerun(run_id)
    shop.client.terminate(run_id)
    until("its end", lambda: (status := shop.client.status(run_id)) and status.is_terminal)
    held.set()
    terminated = shop.export(run_id)
    assert shop.runner.replay(terminated).same
    assert verify(terminated, shop.stack.root, SIGNER).ended
    assert [run.run_id for run in shop.client.runs(["terminated"])] == [run_id]


@pytest.mark.parametrize("shop", [2], indirect=True)
def test_a_run_in_segments_is_proven_replayed_and_run_again(shop: Shop, tmp_path: Path) -> None:
    shop.runner.run_sync("go", run_id="long")
    export = shop.export("long")
    export.save(tmp_path / "long.json")
    assert export.payloads
    assert [one.ordinal for one in steps(export.history())] == [1, 2, 3, 4, 5, 6]
    assert [one.ordinal for one in steps(export.events)][-1:] == [6]
    found = verify(export, shop.stack.root, SIGNER)
    assert (found.reason, found.ended) == (None, True)
    assert replay_elsewhere(tmp_path / "long.json").returncode == 0
    whole = shop.client.rerun("long")
    assert shop.runner.wait(whole).output == "bought"
    assert shop.keys(whole) == keys("long", 1, 2, 3, 4, 5, 6)
    last = shop.client.rerun("long", step=6)
    assert shop.runner.wait(last).output == "bought"
    assert shop.keys(last) == keys("long", 6)
    assert shop.runner.replay(shop.export(last)).same
    with pytest.raises(ValueError, match="can't be run again from operation 1; its last segment has"):
        shop.client.rerun("long", step=1)
    shop.client.purge(last)  # what it refers to is the old run's
    assert [one.ordinal for one in steps(shop.client.history("long"))] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_asked_another_agent_is_replayed_and_run_again(stack: SignedStack) -> None:
    def ask(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked = any(isinstance(message, ModelResponse) for message in messages)
        return ModelResponse(parts=[TextPart("asked") if asked else ToolCallPart(NAME, {"prompt": "go"})])

    attempts: list[Attempt] = []
    options: Any = {"port": stack.sidecars[0].grpc_port, "api_token": API_TOKEN, "on_attempt": attempts.append}
    child = DaprWorkflowAgentRunner(shopper(), **options)
    toolset = ChildAgents([ChildAgent(child, "Shops.")])
    parent = DaprWorkflowAgentRunner(Agent(FunctionModel(ask), name="asker", toolsets=[toolset]), **options)
    start_together([parent, child])
    try:
        parent.run_sync("go", run_id="asking")
        for step, executed in ((None, 8), (3, 1)):
            attempts.clear()
            again = parent.client.rerun("asking", step=step)
            assert parent.wait(again).output == "asked"
            assert sum(attempt.phase == "ended" for attempt in attempts) == executed
            assert {attempt.run_id for attempt in attempts} <= {"asking", "asking.2"}
            export = parent.client.export(again, stack.store())
            assert verify(export, stack.root, SIGNER).valid
            report = parent.replay(export)
            assert report.same, str(report.difference)
        assert child.replay(child.client.export("asking~2.2")).same
    finally:
        parent.shutdown()
        child.shutdown()


def test_what_cannot_be_run_again_is_refused(shop: Shop) -> None:
    shop.runner.run_sync("go", run_id="ended")
    with pytest.raises(ValueError, match="run ended can't be run again from operation 9; its last segment has 1 to 6"):
        shop.client.rerun("ended", step=9)
    with pytest.raises(WorkflowUnavailableError, match="NOT_FOUND"):
        shop.client.rerun("nobody")


def test_the_commands_list_show_export_and_rerun(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAPR_API_TOKEN", API_TOKEN)
    shop.runner.run_sync("go", run_id="commanded")
    of_agent = ["--agent-name", NAME, "--port", str(shop.stack.sidecars[0].grpc_port)]

    def told(*command: Any) -> str:
        assert main([*map(str, command), *of_agent]) == 0
        return capsys.readouterr().out

    assert "commanded\tcompleted\t" in told("runs", "--status", "completed")
    assert "commanded" not in told("runs", "--status", "failed")
    assert "2 tool buy, attempt 1, " in told("history", "commanded")
    file, dsn, root = (tmp_path / name for name in ("commanded.json", "dsn", "root.crt"))
    assert ", 0 signatures, " in told("export", "commanded", file)
    assert Export.load(file).instance_id == "commanded"
    dsn.write_text(shop.stack.dsn)
    root.write_bytes(shop.stack.root)
    told("export", "commanded", file, "--state-dsn-file", dsn, "--app-id", APP_ID)
    assert main(["verify", str(file), "--trust-anchors", str(root), "--signer", SIGNER]) == 0
    assert f"events are proven, signed by {SIGNER}" in capsys.readouterr().out
    again = told("rerun", "commanded", "--step", 6).strip()
    assert again == "commanded~2"
    assert shop.runner.wait(again).output == "bought"
