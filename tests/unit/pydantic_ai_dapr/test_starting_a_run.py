"""What a run is started with crosses to its worker, and a started run can be awaited beside other things."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
from pydantic_ai.workspaces import LocalWorkspaceBackend
from pydantic_ai_dapr import DaprWorkflowAgentRunner, RunInput, RunStatus

from tests.support.scenarios import SCENARIOS, Scenario
from tests.support.workflow_engine import BEGAN

pytestmark = pytest.mark.unit
LIVE = {
    "cancellation_token",
    "capabilities",
    "conversation",
    "event_stream_handler",
    "infer_name",
    "output_type",
    "spec",
}
LIVE |= {"toolsets"}
"""What belongs to the agent that the worker hosts: docs/conformance.md names them."""
RENAMED = {"user_prompt": "prompt", "timeout": "run_timeout"}


def made(agent: Agent[Any, Any] | None = None) -> DaprWorkflowAgentRunner[Any, Any]:
    return DaprWorkflowAgentRunner(agent or Agent(TestModel(), name="agent"), name="agent", port=1)


def carried(runner: DaprWorkflowAgentRunner[Any, Any], monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> RunInput:
    """What reaches the worker of a run that is started with these."""
    started: list[str] = []
    monkeypatch.setattr(
        runner.client, "start_new", lambda run_id, run_input, **_: started.append(run_input.model_dump_json())
    )
    runner.schedule("go", **arguments)
    return RunInput.model_validate_json(started[0])


@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if one.plain], ids=str)
def test_arguments_of_a_run_are_carried_as_the_contract_suite_has_them(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {RENAMED.get(name, name): value for name, value in scenario.plain.items()}
    given = carried(made(scenario.make()), monkeypatch, **arguments)
    wanted = RunInput(run_id="", **scenario.wire).model_dump(exclude_defaults=True)
    assert _only(given.model_dump(), like=wanted) == wanted | {"run_id": given.run_id}


def _only(value: Any, like: Any) -> Any:
    """What of a value the other one has too: one may say what is the default anyway."""
    return {key: _only(value[key], one) for key, one in like.items()} if isinstance(like, dict) else value


def test_every_argument_of_an_agents_run_is_carried_or_belongs_to_the_agent() -> None:
    ours = inspect.signature(DaprWorkflowAgentRunner.schedule).parameters
    theirs = inspect.signature(Agent.run).parameters.keys() - LIVE
    assert {RENAMED.get(name, name) for name in theirs} <= ours.keys()


@pytest.mark.parametrize(
    "arguments",
    [{"model": TestModel()}, {"workspace": LocalWorkspaceBackend(".")}, {"instructions": lambda: "be brief"}],
    ids=lambda arguments: next(iter(arguments)),
)
def test_what_is_alive_is_refused_by_its_name(arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    (name,) = arguments
    with pytest.raises(
        TypeError, match=rf"(?s)^{name} can't be carried to a worker.*to the agent that the worker hosts"
    ):
        carried(made(), monkeypatch, **arguments)


class Sidecar:
    """Starts a run, and ends it, when it is told to."""

    def __init__(self) -> None:
        self.may_start, self.may_end = threading.Event(), asyncio.Event()
        self.started: list[tuple[str, RunInput]] = []

    def start_new(self, run_id: str, run_input: RunInput, **_: Any) -> None:
        assert self.may_start.wait(10)
        self.started.append((run_id, run_input))

    async def ended(self, run_id: str, seconds: float) -> RunStatus:
        await self.may_end.wait()
        output: Any = {"output": "done", "output_type": None, "usage": {"requests": 1}, "messages": []}
        return RunStatus(run_id=run_id, status="completed", created_at=BEGAN, updated_at=BEGAN, output=output)


def test_a_run_is_awaited_while_other_coroutines_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        runner, sidecar = made(), Sidecar()
        monkeypatch.setattr(runner.client, "start_new", sidecar.start_new)
        monkeypatch.setattr(runner.client.hub, "ended", sidecar.ended)

        async def others() -> None:
            sidecar.may_start.set()
            sidecar.may_end.set()

        result, _ = await asyncio.gather(
            runner.run("go", "session-1", workflow_id="run-1", metadata={"tenant": "t"}), others()
        )
        assert (result.run_id, result.output, result.usage.requests) == ("run-1", "done", 1)
        ((run_id, given),) = sidecar.started
        assert (run_id, given.prompt, given.conversation_id) == ("run-1", "go", "session-1")
        assert given.metadata == {"tenant": "t"}

    asyncio.run(main())


def test_a_run_that_is_not_awaited_any_more_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        runner, sidecar = made(), Sidecar()
        sidecar.may_start.set()
        monkeypatch.setattr(runner.client, "start_new", sidecar.start_new)
        monkeypatch.setattr(runner.client.hub, "ended", sidecar.ended)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(runner.run("go", run_id="run-1"), 0.1)
        sidecar.may_end.set()
        assert (await runner.handle("run-1").wait()).output == "done"

    asyncio.run(main())
