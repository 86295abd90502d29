"""A history is read as the steps of its run, and taken away as a file."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai_dapr import Export, ExportError, HistoryEvent, RunError, StateStore, steps

from tests.support.recorded_runs import RecordingEngine, finished, recording, scripted

pytestmark = pytest.mark.unit

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def event(second: int, kind: str, task_id: int | None = None, **members: Any) -> HistoryEvent:
    at = BEGAN + timedelta(seconds=second)
    return HistoryEvent(sequence=second, type=kind, timestamp=at, task_id=task_id, **members)


def operation(ordinal: int, attempt: int = 1) -> dict[str, Any]:
    given = {"run": "run-1", "ordinal": ordinal, "kind": "tool", "name": "double", "attempt": attempt}
    return given | {"params": {"n": ordinal}}


def test_a_step_has_its_input_output_duration_and_attempt() -> None:
    found = steps(finished(scripted([[("double", 4)]])).history())
    assert [(step.ordinal, step.kind, step.name, step.attempt) for step in found] == [
        (1, "model", "model", 1),
        (2, "tool", "double", 1),
        (3, "model", "model", 1),
    ]
    tool = found[1]
    assert isinstance(tool.input, dict)
    assert (tool.input["args"], tool.error, tool.issued) == ({"n": 4}, None, 1)
    assert isinstance(tool.output, dict)
    assert tool.output["result"] == 8
    assert tool.ended is not None
    assert tool.seconds == (tool.ended - tool.started).total_seconds() > 0


def test_every_attempt_is_a_step_with_its_error() -> None:
    export = finished(scripted([], weather=random.Random(1)))
    found = steps(export.history())
    assert [(step.ordinal, step.attempt) for step in found] == [(1, 1), (1, 2)]
    assert found[0].error is not None
    assert (found[0].error.type, found[0].output) == ("ModelHTTPError", None)
    assert found[1].error is None


def test_an_operation_that_was_issued_again_is_one_step_with_its_first_answer() -> None:
    (found,) = steps(
        [
            event(1, "taskScheduled", 2, input=operation(1)),
            event(2, "eventRaised", name="recover"),
            event(3, "taskScheduled", 4, input=operation(1)),
            event(5, "taskCompleted", 4, result={"ok": "first"}),
            event(6, "taskCompleted", 2, result={"ok": "second"}),
        ]
    )
    assert (found.issued, found.output, found.seconds, found.task_id) == (2, "first", 4.0, 2)


def test_an_answer_to_another_segments_task_is_no_steps() -> None:
    (found,) = steps(
        [
            event(0, "executionStarted"),
            event(1, "taskScheduled", 2, input=operation(1)),
            event(2, "executionStarted"),
            event(3, "taskScheduled", 2, input="a question"),
            event(4, "taskCompleted", 2, result="an answer"),
        ]
    )
    assert found.ended is None


def test_a_step_without_an_answer_is_open() -> None:
    (found,) = steps([event(1, "taskScheduled", 2, input=operation(1))])
    assert (found.ended, found.seconds, found.output, found.error) == (None, None, None, None)


def test_an_activity_that_the_engine_failed_is_a_failed_step() -> None:
    gone = RunError(type="ActivityGone", message="no worker has it")
    (found,) = steps([event(1, "taskScheduled", 2, input=operation(1)), event(3, "taskFailed", 2, error=gone)])
    assert (found.error, found.seconds) == (gone, 2.0)


@pytest.mark.parametrize("given", [None, "text", 7, {"ordinal": "x"}, {"mine": 1}])
def test_what_else_a_workflow_does_is_no_step(given: Any) -> None:
    events = [event(0, "workflowStarted"), event(1, "taskScheduled", 2, input=given), event(2, "taskCompleted", 2)]
    assert steps(events) == []


def child(second: int, task_id: int, run_id: str, **members: Any) -> HistoryEvent:
    asked = {"run_id": run_id, "prompt": "find out"}
    return event(second, "childWorkflowInstanceCreated", task_id, name="researcher", input=asked, **members)


def test_what_another_agent_was_asked_is_a_step_that_names_its_workflow() -> None:
    told = RunError(type="ValueError", message="no idea")
    answered, failed, open_ = steps(
        [
            event(0, "executionStarted", input={"run_id": "run-1"}),
            child(1, 1, "run-1.2", instance_id="run-1~2.2"),
            child(1, 2, "run-1.3", instance_id="run-1~2.3"),
            child(1, 3, "run-1.4", instance_id="run-1~2.4"),
            event(3, "childWorkflowInstanceCompleted", 1, result={"output": "found"}),
            event(4, "childWorkflowInstanceFailed", 2, error=told),
        ]
    )
    assert (answered.ordinal, answered.kind, answered.name, answered.attempt) == (2, "child", "researcher", 1)
    assert (answered.instance_id, answered.output, answered.seconds) == ("run-1~2.2", {"output": "found"}, 2.0)
    assert (failed.ordinal, failed.error, failed.seconds) == (3, told, 3.0)
    assert (open_.ordinal, open_.ended) == (4, None)


@pytest.mark.parametrize(("run_id", "of_child"), [("run-1", "run-2.1"), ("run-1", "run-1.x"), (None, "5"), ("", ".5")])
def test_a_child_of_the_users_own_workflow_is_no_step(run_id: str | None, of_child: str) -> None:
    begun = event(0, "executionStarted", input=run_id if run_id is None else {"run_id": run_id})
    assert steps([begun, child(1, 1, of_child, instance_id="x")]) == []


def test_a_steps_duration_is_told_in_json() -> None:
    (found,) = steps([event(1, "taskScheduled", 2, input=operation(1)), event(3, "taskCompleted", 2, result={"ok": 1})])
    assert json.loads(found.model_dump_json())["seconds"] == 2.0


def test_an_export_is_the_same_after_a_file(tmp_path: Path) -> None:
    export = finished(scripted([[("double", 1)]]))
    export.save(tmp_path / "run.json")
    assert Export.load(tmp_path / "run.json") == export
    content = json.loads((tmp_path / "run.json").read_text())
    assert (content["format"], content["version"], content["instance_id"]) == ("pydantic-ai-dapr/history", 1, "run-1")
    assert content["workflow"] == "pydantic_ai_dapr.agent"
    assert content["events"][1]["type"] == "executionStarted"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("not json", "is no export"),
        ("[]", "its `format` isn't"),
        ('{"format": "other"}', "its `format` isn't"),
        ('{"format": "pydantic-ai-dapr/history", "version": 2}', "has version 2; this library reads 1: upgrade it"),
        ('{"format": "pydantic-ai-dapr/history", "version": 1, "events": 3}', "instance_id: Field required"),
    ],
)
def test_a_file_that_is_no_export_is_refused_with_a_reason(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ExportError, match=reason):
        Export.load(tmp_path / "run.json")


@pytest.mark.parametrize(("recorded", "reason"), [([], "has no beginning"), ([b"\xff"], "not a history event")])
def test_what_is_no_history_is_not_exported(recorded: list[bytes], reason: str) -> None:
    with pytest.raises(ExportError, match=reason):
        Export.of("run-1", recorded)


def test_a_state_store_is_asked_for_a_workflows_own_keys() -> None:
    prefix = "desk||dapr.internal.prod.desk.workflow||run-1||"
    rows = {f"{prefix}history-000000": b"a", f"{prefix}history-000001": b"b", f"{prefix}signature-000000": b"s"}
    asked: list[str] = []

    def read(keys: list[str]) -> dict[str, bytes]:
        asked.extend(keys)
        return rows

    stored = StateStore("desk", read, "prod").stored("run-1", 1)  # it has gone on since it was counted
    assert (stored.events, stored.signatures, stored.certificates) == ([b"a", b"b"], [b"s"], [])
    assert set(rows) <= set(asked)
    assert all(key.startswith(prefix) for key in asked)


def test_an_unfinished_run_is_exported_as_far_as_it_is() -> None:
    run, engine = recording(scripted([[("double", 1)]]))
    assert isinstance(engine, RecordingEngine)
    engine.turn()
    assert [step.ended for step in steps(engine.export().events)] == [None]
    assert run.attempts == []
