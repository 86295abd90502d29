"""Who moves from Diagrid's runner changes an import: what is called there is taken here, by the same names."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai_dapr import DaprWorkflowAgentRunner, RunStatus, hosting

from infra.state import project_root
from tests.support.workflow_engine import BEGAN

pytestmark = pytest.mark.unit
REQUIRED = inspect.Parameter.empty
Arguments = dict[str, Any]

POSITIONAL: dict[str, Arguments] = {
    "__init__": {"agent": REQUIRED},
    "run_async": {"user_message": REQUIRED, "session_id": REQUIRED},
    "run_sync": {"user_message": REQUIRED, "session_id": REQUIRED},
    "get_workflow_status": {"workflow_id": REQUIRED},
    "terminate_workflow": {"workflow_id": REQUIRED},
    "purge_workflow": {"workflow_id": REQUIRED},
    "start": {},
    "shutdown": {},
    "serve": {},
}
"""The public methods of `DaprWorkflowAgentRunner` in `diagrid` 0.5.3, with what they take by place or name."""
NAMED: dict[str, Arguments] = {
    "__init__": {
        "name": REQUIRED,
        "host": None,
        "port": None,
        "max_iterations": 25,
        "registry_config": None,
        "state_store": None,
    },
    "run_async": {"workflow_id": None, "poll_interval": 0.5},
    "run_sync": {"workflow_id": None, "timeout": 300.0},
    "serve": {
        "port": 5001,
        "host": "0.0.0.0",
        "pubsub_name": None,
        "subscribe_topic": None,
        "publish_topic": None,
    },
}
"""What they take by name alone."""
LEFT_OUT = {"registry_config", "pubsub_name", "subscribe_topic", "publish_topic", "workflow_name"}
OTHER_DEFAULTS = {("serve", "host"): "127.0.0.1"}
PAGE = (project_root() / "docs" / "moving-to-pydantic-ai-dapr.md").read_text()


class Shared:
    """A connection, and how often it was let go."""

    released = 0

    def release(self) -> None:
        self.released += 1


@pytest.mark.parametrize("method", POSITIONAL)
def test_a_call_that_is_right_there_is_right_here(method: str) -> None:
    ours = inspect.signature(getattr(DaprWorkflowAgentRunner, method))
    by_place, named = POSITIONAL[method], NAMED.get(method, {}).keys() - LEFT_OUT
    assert list(ours.parameters)[1 : 1 + len(by_place)] == list(by_place)
    assert named <= ours.parameters.keys()
    ours.bind("self", *by_place, **dict.fromkeys(named))
    ours.bind("self", **dict.fromkeys([*by_place, *named]))


@pytest.mark.parametrize("method", NAMED)
def test_what_is_left_out_of_a_call_is_the_same(method: str) -> None:
    ours = inspect.signature(getattr(DaprWorkflowAgentRunner, method)).parameters
    for name, default in NAMED[method].items():
        if name not in LEFT_OUT and default is not REQUIRED:
            assert ours[name].default == OTHER_DEFAULTS.get((method, name), default), name


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_the_page_names_what_is_not_taken(name: str) -> None:
    assert f"`{name}" in PAGE


def test_what_is_told_of_a_run_has_the_keys_that_it_has_there(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = DaprWorkflowAgentRunner(Agent("test", name="agent"), port=1)
    status = RunStatus(run_id="run-1", status="running", created_at=BEGAN, updated_at=BEGAN)
    monkeypatch.setattr(runner.client, "status", lambda run_id: status if run_id == "run-1" else None)
    told = runner.get_workflow_status("run-1")
    assert told is not None
    assert told.keys() >= {"workflow_id", "status", "created_at", "last_updated_at"}
    assert runner.get_workflow_status("run-2") is None
    assert (runner.agent.name, runner.is_running) == ("agent", False)


def test_a_runner_that_was_started_can_be_started_as_there(monkeypatch: pytest.MonkeyPatch) -> None:
    runner, shared, started = DaprWorkflowAgentRunner(Agent("test", name="agent"), port=1), Shared(), []

    def start_together(runners: list[Any]) -> None:
        started.append(runners)
        runner.started(shared)  # type: ignore[arg-type]

    monkeypatch.setattr(hosting, "start_together", start_together)
    monkeypatch.setattr(runner, "_watch", lambda operations: None)
    runner.start()
    runner.start()
    assert (started, runner.is_running) == ([[runner]], True)
    runner.shutdown()
    runner.shutdown()
    assert (shared.released, runner.is_running) == (1, False)
