"""The example in the documentation does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import langgraph_dapr
import pytest

from tests.support.durable_graphs import DurableGraphRun

pytestmark = pytest.mark.unit
PAGE = Path(__file__).parents[3] / "docs" / "langgraph.md"


def test_the_example_runs_and_prints_what_its_comments_say(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def on_the_engine_in_memory(graph: Any, *, name: str) -> Any:
        runner = DurableGraphRun(graph, None, by_itself=True).runner
        monkeypatch.setattr(runner, "start", lambda: None)
        return runner

    monkeypatch.setattr(langgraph_dapr, "DaprWorkflowGraphRunner", on_the_engine_in_memory)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile(code, str(PAGE), "exec"), {"__name__": "refund"})  # noqa: S102
    question, payment, steps = capsys.readouterr().out.splitlines()
    assert f'print(question["__interrupt__"][0].value)  # {question}' in code
    assert f"# {payment}" in code
    assert steps == "[('__start__',), ('look_up',), ('ask',), ('pay',), ()]"
