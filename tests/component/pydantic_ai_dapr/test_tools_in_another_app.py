"""Tools in another app, over mTLS: what its policy allows answers; all else is denied, and stands on record."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic_ai import Agent, FunctionToolset, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai_dapr import (
    Attempt,
    DaprWorkflowAgentRunner,
    Denial,
    RemoteToolset,
    RunFailedError,
    ToolHost,
    access_policy,
    current_operation,
)
from pydantic_ai_dapr.taskhub import TaskHub

from tests.component.dapr_stack import API_TOKEN, Sidecar, until
from tests.component.mtls_stack import MtlsStack, mtls_stack

pytestmark = pytest.mark.component


class Customer(BaseModel):
    """Dependencies that cross to the tools' app."""

    name: str


def desk(calls: list[str], release: threading.Event) -> FunctionToolset[Customer]:
    toolset: FunctionToolset[Customer] = FunctionToolset(id="desk")

    @toolset.tool
    def look_up(ctx: RunContext[Customer], order: int) -> str:
        calls.append(f"look_up {order}")
        return f"order {order} of {ctx.deps.name}, asked as {current_operation().key}"

    @toolset.tool_plain
    def refund(order: int) -> str:
        calls.append(f"refund {order}")
        return f"refunded {order}"

    @toolset.tool_plain
    def inspect(order: int) -> str:
        calls.append(f"inspect {order}")
        assert release.wait(60)
        return f"inspected {order}"

    return toolset


def asks_for(*tools: str) -> FunctionModel:
    """A model that calls one tool after the other, and then repeats what it was told."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        told = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
        if len(told) < len(tools):
            return ModelResponse(parts=[ToolCallPart(tools[len(told)], {"order": 7})])
        return ModelResponse(parts=[TextPart(" | ".join(str(part.content) for part in told))])

    return FunctionModel(answer)


@dataclass
class Office:
    """The apps `agents` and `strangers`, and the app `tools`, which lets `agents` look up and inspect orders."""

    stack: MtlsStack
    calls: list[str] = field(default_factory=list[str])
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    hosted: list[Attempt] = field(default_factory=list[Attempt])
    denials: list[Denial] = field(default_factory=list[Denial])
    release: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        toolset = desk(self.calls, self.release)
        self.stack.resources["tools"] = [access_policy("tools", ["agents"], toolset, ["look_up", "inspect"])]
        self.sidecars: dict[str, Sidecar] = {app: self.stack.start_app(app) for app in ("tools", "agents", "strangers")}
        self.host = ToolHost(
            toolset,
            deps_type=Customer,
            port=self.sidecars["tools"].grpc_port,
            api_token=API_TOKEN,
            on_attempt=self.hosted.append,
        )
        self.host.start()

    def runner(self, app: str, model: FunctionModel, denied: Any = "model") -> DaprWorkflowAgentRunner[Customer, str]:
        tools = RemoteToolset(desk([], self.release), "tools", denied, self.denials.append)
        agent = Agent(model, name="clerk", deps_type=Customer, toolsets=[tools])
        port = self.sidecars[app].grpc_port
        return DaprWorkflowAgentRunner(agent, port=port, api_token=API_TOKEN, on_attempt=self.attempts.append)

    def instances(self, app: str) -> list[str]:
        hub = TaskHub("127.0.0.1", self.sidecars[app].grpc_port, API_TOKEN)
        try:
            return list(hub.instance_ids(5))
        finally:
            hub.close()


@pytest.fixture(params=[True, False], ids=["signed histories", "unsigned histories"])
def office(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Office]:
    with mtls_stack(tmp_path, signed_histories=request.param) as stack:
        made = Office(stack)
        yield made
        made.host.shutdown()


Run = Callable[[DaprWorkflowAgentRunner[Customer, str], str], Any]


@pytest.fixture
def run() -> Iterator[Run]:
    started: list[DaprWorkflowAgentRunner[Customer, str]] = []

    def make(runner: DaprWorkflowAgentRunner[Customer, str], run_id: str) -> Any:
        runner.start()
        started.append(runner)
        return runner.run_sync("go", deps=Customer(name="Ada"), run_id=run_id, timeout=60)

    yield make
    for runner in started:
        runner.shutdown()


def test_an_allowed_tool_answers_and_a_denied_one_is_told_to_the_model(
    office: Office, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    runner = office.runner("agents", asks_for("look_up", "refund", "look_up"))
    with caplog.at_level(logging.WARNING, "pydantic_ai_dapr"):
        result = run(runner, "run-1")
    answer, denial, again = result.output.split(" | ")
    assert answer == "order 7 of Ada, asked as run-1:2"
    assert again == "order 7 of Ada, asked as run-1:6"
    assert denial == "The access policy of app 'tools' denies the tool 'refund'."
    assert office.calls == ["look_up 7", "look_up 7"]
    assert {attempt.name for attempt in office.hosted} == {"look_up"}
    assert [attempt.key for attempt in office.attempts if attempt.name == "refund"] == ["run-1:4"] * 2  # no retry
    (record,) = office.denials
    assert (record.run_id, record.key, record.tool) == ("run-1", "run-1:4", "refund")
    assert (record.app_id, record.caller) == ("tools", "agents")
    assert "app 'tools' denied app 'agents' the tool 'refund'" in caplog.text
    assert "denied app 'agents' on activity 'tool.desk.refund'" in office.stack.log("tools")
    recorded = [event.result for event in runner.client.history("run-1") if event.type == "taskCompleted"]
    assert [one["err"]["type"] for one in recorded if "err" in one] == ["ToolDeniedError"]
    until("the calls' workflows to be removed", lambda: office.instances("agents") == ["run-1"])


def test_another_app_is_denied_whatever_it_claims_to_be(office: Office, run: Run) -> None:
    assert "asked as agents:2" in run(office.runner("agents", asks_for("look_up")), "agents").output
    stranger = office.runner("strangers", asks_for("look_up"), denied="raise")
    # The same agent, the same workflow, the same run id: everything that a caller can write itself.
    with pytest.raises(RunFailedError, match="policy of app 'tools' denies the tool 'look_up'") as failed:
        run(stranger, "agents")
    assert failed.value.status.error is not None
    assert failed.value.status.error.type == "ToolDeniedError"
    assert office.calls == ["look_up 7"]
    assert [record.caller for record in office.denials] == ["strangers"]
    assert "denied app 'strangers' on activity 'tool.desk.look_up'" in office.stack.log("tools")


def test_a_call_waits_for_a_tool_host_that_is_away(office: Office) -> None:
    office.host.shutdown()
    runner = office.runner("agents", asks_for("look_up"))
    runner.start()
    handle = runner.schedule("go", deps=Customer(name="Ada"), run_id="run-1")
    until("the call", lambda: any(attempt.name == "look_up" for attempt in office.attempts))
    assert office.calls == []
    office.host.start()
    try:
        assert handle.result(60).output == "order 7 of Ada, asked as run-1:2"
    finally:
        runner.shutdown()
    assert office.calls == ["look_up 7"]


def test_a_call_survives_the_loss_of_the_callers_sidecar(office: Office) -> None:
    runner = office.runner("agents", asks_for("inspect", "look_up"))
    runner.start()
    try:
        handle = runner.schedule("go", deps=Customer(name="Ada"), run_id="run-1")
        until("the tool", lambda: office.calls == ["inspect 7"])
        office.stack.end("daprd-agents")
        office.stack.start_app("agents")
        office.release.set()
        assert handle.result(60).output == "inspected 7 | order 7 of Ada, asked as run-1:4"
    finally:
        office.release.set()
        runner.shutdown()
    assert office.calls == ["inspect 7", "look_up 7"]


def test_the_programs_of_the_documentation_run_as_they_are(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    for program in re.findall(r"```python\n(.*?)```", (root / "docs/tool-access.md").read_text(), re.DOTALL):
        name = re.match(r"# (\w+\.py)", program)
        assert name is not None
        (tmp_path / name[1]).write_text(program)

    def environment(sidecar: Sidecar | None) -> dict[str, str]:
        port = {"DAPR_GRPC_PORT": str(sidecar.grpc_port), "DAPR_API_TOKEN": API_TOKEN} if sidecar else {}
        return os.environ | port | {"PYTHONPATH": str(tmp_path)}

    def run(program: str, sidecar: Sidecar | None = None) -> str:
        command = [sys.executable, program]
        done = subprocess.run(command, cwd=tmp_path, env=environment(sidecar), capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    with mtls_stack(tmp_path) as stack:
        stack.resources["tools"] = [yaml.safe_load(run("policy.py"))]
        tools, agents = stack.start_app("tools"), stack.start_app("agents")
        stack.spawn("tools", [sys.executable, "tools.py"], **environment(tools))
        said = run("agent.py", agents)
    assert "order 0 of Ada is on its way" in said
    assert "The access policy of app 'tools' denies the tool 'refund'." in said
