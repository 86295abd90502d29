"""An agent's question to another agent is a child workflow, and survives what its parent survives."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai_dapr import Attempt, ChildAgent, ChildAgents, DaprWorkflowAgentRunner, RunFailedError, start_together

from tests.component.dapr_stack import API_TOKEN, DaprStack, dapr_stack, until

pytestmark = pytest.mark.component


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[DaprStack]:
    with dapr_stack(tmp_path) as made:
        yield made


def asks(tool: str, **arguments: Any) -> FunctionModel:
    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        returned = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
        if not returned:
            return ModelResponse(parts=[ToolCallPart(tool, arguments)])
        return ModelResponse(parts=[TextPart(f"heard {returned[0].content}")])

    return FunctionModel(answer)


class Family:
    """A child that works until it is let go on, and a parent that asks it."""

    def __init__(self, stack: DaprStack, attempts: list[Attempt], *, breaks: bool = False) -> None:
        self.entered, self.go_on = threading.Event(), threading.Event()
        child = Agent(asks("work"), name="child")

        @child.tool_plain
        def work() -> int:
            self.entered.set()
            assert self.go_on.wait(30)
            if breaks:
                raise PermissionError("not mine")
            return 42

        options: Any = {"port": stack.sidecars[-1].grpc_port, "api_token": API_TOKEN, "on_attempt": attempts.append}
        self.child = DaprWorkflowAgentRunner(child, **options)
        toolset = ChildAgents([ChildAgent(self.child, "Works.")])
        self.agent = Agent(asks("child", prompt="work, please"), name="parent", toolsets=[toolset])
        self.parent = DaprWorkflowAgentRunner(self.agent, **options)

    def __enter__(self) -> Family:
        start_together([self.parent, self.child])
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self.parent.shutdown()
        self.child.shutdown()


def test_a_childs_output_and_usage_are_its_parents(stack: DaprStack) -> None:
    with Family(stack, []) as family:
        family.go_on.set()
        result = family.parent.run_sync("go", run_id="run")
        plain = family.agent.run_sync("go")
        assert result.output == plain.output == "heard heard 42"
        assert result.usage.requests == plain.usage.requests == 4
        child = family.child.status("run.2")
        assert child is not None
        assert child.status == "completed"


def test_a_child_that_fails_fails_its_parent_with_the_cause(stack: DaprStack) -> None:
    with Family(stack, [], breaks=True) as family:
        family.go_on.set()
        with pytest.raises(RunFailedError, match="not mine"):
            family.parent.run_sync("go")


@pytest.mark.parametrize("wakes", [1, 2])
def test_a_child_is_woken_with_its_parent(stack: DaprStack, wakes: int) -> None:
    attempts: list[Attempt] = []
    with Family(stack, attempts) as family:
        run_id = family.parent.schedule("go", run_id="run").run_id
        assert family.entered.wait(20)
        stack.end("daprd-0")
        stack.wipe_scheduler()
    stack.start_sidecar()
    with Family(stack, attempts) as family:
        family.go_on.set()
        for number in range(wakes):
            until("a sidecar that knows the run", lambda number=number: _recovered(family, f"epoch {number}"))
        assert family.parent.wait(run_id).output == "heard heard 42"
    done = Counter(attempt.key for attempt in attempts if attempt.outcome == "ok")
    assert {key for key, count in done.items() if count > 1} <= {"run.2:2"}


def _recovered(family: Family, token: str) -> bool:
    try:
        family.parent.client.recover("run", token)
    except Exception:
        return False
    return True
