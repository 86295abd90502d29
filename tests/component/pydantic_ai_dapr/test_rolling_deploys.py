"""Runs that are under way while code is deployed, on a real sidecar."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai_dapr import DaprWorkflowAgentRunner, WaitForApproval

from tests.component.dapr_stack import API_TOKEN, DaprStack, dapr_stack, until

pytestmark = pytest.mark.component


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[DaprStack]:
    with dapr_stack(tmp_path) as made:
        yield made


def desk(text: str, tools: tuple[str, ...]) -> Agent[Any, Any]:
    """Calls its tools one after the other, each with approval, and ends with `text`."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        done = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
        if len(done) < len(tools):
            tool = tools[len(done)]
            return ModelResponse(parts=[ToolCallPart(tool, {}, tool_call_id=tool)])
        return ModelResponse(parts=[TextPart(text)])

    agent = Agent(FunctionModel(answer), name="desk", capabilities=[WaitForApproval()])
    for tool in tools:
        agent.tool_plain(lambda: "done", name=tool, requires_approval=True)
    return agent


def worker(stack: DaprStack, agent: Agent[Any, Any], **options: Any) -> DaprWorkflowAgentRunner[Any, Any]:
    runner = DaprWorkflowAgentRunner(agent, port=stack.sidecars[-1].grpc_port, api_token=API_TOKEN, **options)
    runner.start()
    return runner


def waiting(runner: DaprWorkflowAgentRunner[Any, Any], run_id: str) -> bool:
    return any(event.type == "taskCompleted" for event in runner.client.history(run_id))


OLD, NEW = ("refund",), ("check", "refund")


def test_a_run_stays_with_the_version_that_it_was_started_with(stack: DaprStack) -> None:
    first = worker(stack, desk("old", OLD), version="1")
    old = first.schedule("go").run_id
    until("the question", lambda: waiting(first, old))
    first.shutdown()
    second = worker(stack, desk("new", NEW), version="2", previous={"1": desk("old", OLD)})
    try:
        second.client.approve(old, "refund")
        new = second.schedule("go").run_id
        for call in NEW:
            second.client.approve(new, call)
        assert [second.wait(run).output for run in (old, new)] == ["old", "new"]
    finally:
        second.shutdown()


def test_a_worker_without_a_runs_version_leaves_it_to_one_that_has_it(stack: DaprStack) -> None:
    first = worker(stack, desk("old", OLD), version="1")
    run = first.schedule("go").run_id
    until("the question", lambda: waiting(first, run))
    first.shutdown()
    second = worker(stack, desk("new", NEW), version="2")
    second.client.approve(run, "refund")
    until("the stalled run", lambda: getattr(second.status(run), "status", "") == "stalled")
    with pytest.raises(TimeoutError, match="waits for a worker whose code fits"):
        second.wait(run, timeout=0.2)
    second.shutdown()
    stack.end("daprd-0")
    stack.start_sidecar()
    third = worker(stack, desk("new", NEW), version="2", previous={"1": desk("old", OLD)})
    try:
        assert third.wait(run).output == "old"
    finally:
        third.shutdown()


def test_code_that_does_something_else_stalls_its_run_until_code_that_fits_is_back(
    stack: DaprStack, caplog: pytest.LogCaptureFixture
) -> None:
    first = worker(stack, desk("old", OLD))
    run = first.schedule("go").run_id
    until("the question", lambda: waiting(first, run))
    first.shutdown()

    renamed = desk("new", OLD)
    renamed_worker = worker(stack, renamed, name="desk")

    @renamed.instructions
    async def looks_up() -> str:
        from pydantic_ai_dapr.run import current_run

        live = current_run.get()
        assert live is not None
        await live.call("pydantic_ai_dapr.ask", lambda: {})
        return "asks somebody first"

    renamed_worker.client.approve(run, "refund")
    until("the stalled run", lambda: getattr(renamed_worker.status(run), "status", "") == "stalled")
    assert "the code does something else at event" in caplog.text
    other = renamed_worker.schedule("go").run_id
    renamed_worker.client.approve(other, "refund")
    assert renamed_worker.wait(other).output == "new"
    renamed_worker.shutdown()
    stack.end("daprd-0")
    stack.start_sidecar()
    third = worker(stack, desk("old", OLD))
    try:
        assert third.wait(run).output == "old"
    finally:
        third.shutdown()
