"""Who waits for a run gets its end, or a word on how far it is."""

from __future__ import annotations

import asyncio
from typing import Any

import dapr.ext.workflow._durabletask.internal.protos as pb
import pytest
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
from pydantic_ai_dapr import (
    DaprWorkflowAgentRunner,
    RunExistsError,
    RunFailedError,
    RunStatus,
    WorkflowUnavailableError,
    runner,
)

from tests.support.workflow_engine import BEGAN

pytestmark = pytest.mark.unit

OUTPUT: dict[str, Any] = {"output": "done", "type": "text", "usage": {}, "messages": []}


class Hub:
    """A sidecar that answers in turn; an error is raised, and the last answer stays."""

    def __init__(self, *answers: RunStatus | Exception | None) -> None:
        self.answers, self.asked = list(answers), 0

    def end(self, run_id: str, seconds: float) -> RunStatus | None:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ended(self, run_id: str, seconds: float) -> RunStatus | None:
        return self.end(run_id, seconds)

    def status(self, run_id: str, timeout: float) -> RunStatus | None:
        return self.end(run_id, timeout)


def status(state: Any, **more: Any) -> RunStatus:
    return RunStatus(run_id="run-1", workflow="agent", status=state, created_at=BEGAN, updated_at=BEGAN, **more)


@pytest.fixture(params=["blocking", "async"])
def wait(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Waits for a run of a sidecar that answers so."""
    monkeypatch.setattr(runner, "FOLLOW_SECONDS", 0.001)

    def waiting(hub: Hub, timeout: float = 5.0) -> Any:
        hosted = DaprWorkflowAgentRunner(Agent(TestModel(), name="agent"), port=1)
        monkeypatch.setattr(hosted.client, "hub", hub)
        monkeypatch.setattr(hosted, "result_of", lambda output, run_id: output["output"])
        handle = hosted.handle("run-1")
        return handle.result(timeout) if request.param == "blocking" else asyncio.run(handle.wait(timeout))

    return waiting


class Engine:
    """A sidecar that has every run already."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def GetInstance(self, request: Any, **_: Any) -> Any:
        return pb.GetInstanceResponse(exists=True)

    def StartInstance(self, request: Any, **_: Any) -> None:
        self.started.append(request.instanceId)


def test_an_id_that_was_made_up_just_now_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    hosted, engine = DaprWorkflowAgentRunner(Agent(TestModel(), name="agent"), port=1), Engine()
    monkeypatch.setattr(hosted.client.hub, "_stub", engine)
    run_id = hosted.schedule("go").run_id
    with pytest.raises(RunExistsError):
        hosted.schedule("go", run_id="run-1")
    assert engine.started == [run_id]


def test_a_sidecar_that_does_not_answer_for_a_while_is_asked_again(wait: Any) -> None:
    hub = Hub(WorkflowUnavailableError("gone"), status("running"), status("completed", output=OUTPUT))
    assert wait(hub) == "done"
    assert hub.asked == 3


def test_a_run_that_failed_is_told_as_failed(wait: Any) -> None:
    with pytest.raises(RunFailedError):
        wait(Hub(status("failed")))


def test_who_waits_for_too_long_is_told_how_far_the_run_is(wait: Any) -> None:
    with pytest.raises(TimeoutError, match=r"did not end within 0\.01 s; it was stalled .* a worker whose code fits"):
        wait(Hub(status("stalled")), 0.01)


def test_who_waits_for_a_sidecar_that_is_gone_is_told_so(wait: Any) -> None:
    with pytest.raises(TimeoutError, match=r"it was unknown when last seen \(no sidecar\)"):
        wait(Hub(WorkflowUnavailableError("no sidecar")), 0.01)


def test_a_run_that_ends_at_the_last_moment_is_a_result(wait: Any) -> None:
    assert wait(Hub(status("completed", output=OUTPUT)), 0.0) == "done"
