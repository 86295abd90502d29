"""Tools of Dapr's `MCPServer` resource: child workflows that list and call them, and what their answers become."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai_dapr import DaprDurability, MCPServerToolset
from pydantic_ai_dapr.errors import OperationFailedError

from tests.support.durable_agents import DurableRun

pytestmark = pytest.mark.unit
PREFIX = "dapr.internal.mcp.weather."
LISTED = {
    "tools": [
        {"name": "forecast", "description": "Tells.", "inputSchema": {"type": "object", "required": ["city"]}},
        {"name": "other"},
    ]
}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


class Run:
    """A run of an agent that calls `forecast` until it has `answers` answers."""

    def __init__(self, *answers: dict[str, Any], **options: Any) -> None:
        self.offered: list[list[str]] = []
        self.asked: list[tuple[str, Any]] = []
        self.answers, wanted = list(answers), len(answers)

        def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            self.offered.append([tool.name for tool in info.function_tools])
            told = [p for m in messages for p in m.parts if isinstance(p, ToolReturnPart | RetryPromptPart)]
            if len(told) < wanted:
                return ModelResponse(parts=[ToolCallPart("forecast", {"city": "Rome"})])
            return ModelResponse(parts=[TextPart("done")])

        tools = MCPServerToolset("weather", **options)
        self.durable = DurableRun(
            Agent(FunctionModel(model), name="agent", toolsets=[tools], capabilities=[DaprDurability()])
        )
        self.engine = self.durable.engine

    def serve(self, name: str, value: Any) -> Any:
        if not name.startswith(PREFIX):
            return self.durable.serve(name, value)
        self.asked.append((name.removeprefix(PREFIX), value))
        return LISTED if name.endswith("ListTools") else self.answers.pop(0)

    def told(self) -> list[Any]:
        """What the model was told, in order."""
        result = self.engine.run_on(self.serve) if self.engine.history else self.engine.run(self.serve)
        parts = [part for message in result["messages"] for part in message["parts"]]
        return [part["content"] for part in parts if part["part_kind"] in ("tool-return", "retry-prompt")]


def test_each_call_is_a_workflow_of_its_own_and_the_tools_are_listed_once() -> None:
    run = Run({"content": [text("sunny")]}, {"content": [text("rain")]})
    assert run.told() == ["sunny", "rain"]
    call = ("CallTool.forecast", {"arguments": {"city": "Rome"}})
    assert run.asked == [("ListTools", {}), call, call]
    assert run.offered == [["forecast", "other"]] * 3


def test_only_chosen_tools_are_offered_and_a_missing_one_is_named() -> None:
    run = Run({"content": []}, tools=["forecast"])
    run.told()
    assert run.offered[0] == ["forecast"]
    with pytest.raises(ValueError, match=r"'weather' has no \['gone'\]: its tools are \['forecast', 'other'\]"):
        Run({}, tools=["gone"]).told()


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ({"content": [text('{"a": 1}')]}, {"a": 1}),
        ({"content": [text("{not json")]}, "{not json"),
        ({"content": [text("1"), text("2")]}, ["1", "2"]),
        ({"content": [text("7")], "structuredContent": {"result": 7}}, 7),
        ({"content": [text("x")], "structuredContent": {"high": 30}}, {"high": 30}),
        ({"content": None, "structuredContent": [1]}, [1]),
        ({"content": [{"type": "resource_link", "uri": "file:///a"}]}, "file:///a"),
        ({"content": [{"type": "resource", "resource": {"uri": "file:///a", "text": "inside"}}]}, "inside"),
        ({"content": [{"type": "later", "text": "new"}]}, {"type": "later", "text": "new"}),
    ],
)
def test_an_answer_becomes_what_pydantic_ais_own_toolset_gives(answer: dict[str, Any], value: Any) -> None:
    assert Run(answer).told() == [value]


@pytest.mark.parametrize(
    "content",
    [
        {"type": "image", "data": base64.b64encode(b"png").decode(), "mimeType": "image/png"},
        {"type": "resource", "resource": {"blob": base64.b64encode(b"png").decode(), "mimeType": "image/png"}},
    ],
)
def test_binary_content_reaches_the_model_as_such(content: dict[str, Any]) -> None:
    (told,) = Run({"content": [content]}).told()
    assert told["kind"] == "binary"
    assert base64.b64decode(told["data"]) == BinaryContent(b"png", media_type="image/png").data


def test_an_error_of_the_server_is_told_to_the_model() -> None:
    refused = {"content": [text("no station")], "isError": True}
    structured = {"content": [], "structuredContent": {"code": 5}, "isError": True}
    assert Run(refused, {"content": [text("sunny")]}).told() == ["no station", "sunny"]
    assert Run(structured, {"content": [text("sunny")]}).told() == ['{"code": 5}', "sunny"]


def test_a_server_that_the_sidecar_does_not_have_fails_the_run() -> None:
    run = Run({})

    def serve(name: str, value: Any) -> Any:
        raise LookupError("no such workflow")

    with pytest.raises(OperationFailedError, match="no such workflow"):
        run.engine.run(serve)


def test_a_call_whose_wake_ups_are_lost_is_another_workflow_and_the_first_answer_counts() -> None:
    run = Run({"content": [text("sunny")]})
    run.engine.turn()
    while not any(event.name == f"{PREFIX}CallTool.forecast" for event in run.engine.history):
        for number in list(run.engine.wakeups):
            run.engine.serve(number, run.serve)
        run.engine.turn()
    run.engine.fail_over("epoch 2")
    run.durable.replace_worker()
    run.engine.turn()
    assert run.told() == ["sunny"]
    names = [event.name.removeprefix(PREFIX) for event in run.engine.history if event.kind == "scheduled"]
    assert names.count("CallTool.forecast") == 2


def test_outside_a_durable_run_the_tools_are_refused_with_the_remedy() -> None:
    agent = Agent(FunctionModel(lambda messages, info: ModelResponse(parts=[])), toolsets=[MCPServerToolset("weather")])
    with pytest.raises(RuntimeError, match="MCPServer 'weather' are called by Dapr, in durable runs only"):
        agent.run_sync("go")
    assert MCPServerToolset("weather").id == "mcp-weather"
