"""A region's API over a real sidecar that signs, a real database, and a worker: histories, reruns, and their sweep."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai_dapr import (
    AgentRunClient,
    Attempt,
    ChildAgent,
    ChildAgents,
    DaprWorkflowAgentRunner,
    Export,
    start_together,
    verify,
)
from refund_desk.agent import build_agent
from refund_desk.effects import MemoryEffects
from refund_desk.hosted import hosted
from refund_desk.model import deterministic_model
from region_agent.events import EventLog
from region_agent.sweep import Sweeper
from run_index import AuditLog, RunIndex
from service.api import build_app
from service.config import ServiceConfig
from service.region import Region
from service.role import RoleFile
from service.sidecars import Sidecars
from service.state_store import state_store, stored_history

from tests.component.dapr_stack import API_TOKEN, until
from tests.component.run_index.conftest import Database, server
from tests.component.signed_stack import APP_ID, SIGNER, SignedStack, signed_stack
from tests.support.regions import TOKEN, service_config, write_role

pytestmark = pytest.mark.component

__all__ = ["server"]

TICKET = {"ticket_id": "T-1", "customer": "Bruno Costa", "order_id": "ORD-10038", "body": "It stopped working"}
REFUND = 11
"""The operation that issues the refund."""


def asker(child: DaprWorkflowAgentRunner[Any, Any]) -> Agent[None, str]:
    """Asks another agent, and ends."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked = any(isinstance(message, ModelResponse) for message in messages)
        return ModelResponse(parts=[TextPart("asked") if asked else ToolCallPart("helper", {"prompt": "help"})])

    return Agent(FunctionModel(answer), name="asker", toolsets=[ChildAgents([ChildAgent(child, "Helps.")])])


@dataclass
class Desk:
    """A region's API, and the worker behind it."""

    stack: SignedStack
    api: TestClient
    index: RunIndex
    workflows: AgentRunClient
    runner: DaprWorkflowAgentRunner[Any, Any]
    asker: DaprWorkflowAgentRunner[Any, Any]
    dsn: str
    attempts: list[Attempt] = field(default_factory=list)

    def start(self, run_id: str) -> str:
        """A refund that has ended."""
        assert self.api.post("/v1/runs", json={"run_id": run_id, "input": TICKET}).status_code == 202
        return self.ended(run_id)

    def ended(self, run_id: str) -> str:
        until(f"the end of {run_id}", lambda: self.get(run_id)["status"] == "completed")
        return run_id

    def get(self, path: str) -> Any:
        return self.api.get(f"/v1/runs/{path}").json()

    def rerun(self, run_id: str, **more: Any) -> str:
        new_id = f"{run_id.partition('~')[0]}~{more.pop('number', 2)}"
        response = self.api.post(f"/v1/runs/{run_id}/rerun", json={"run_id": new_id, **more})
        assert response.status_code == 202, response.text
        return self.ended(new_id)

    def executed(self, instance_id: str) -> list[int]:
        """The operations that were executed for an instance."""
        return sorted({one.ordinal for one in self.attempts if one.instance_id == instance_id})


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, server: Database) -> Iterator[Desk]:
    place = tmp_path_factory.mktemp("desk")
    attempts: list[Attempt] = []
    with signed_stack(tmp_path_factory.mktemp("stack"), server.dsn) as stack:
        options: Any = {"port": stack.sidecars[0].grpc_port, "api_token": API_TOKEN, "on_attempt": attempts.append}
        runner = DaprWorkflowAgentRunner(
            build_agent(deterministic_model(), MemoryEffects()), name="refund-desk", **options
        )
        helper = DaprWorkflowAgentRunner(Agent("test", name="helper"), **options)
        asking = DaprWorkflowAgentRunner(asker(helper), **options)
        start_together([runner, helper, asking])
        index = RunIndex(server.dsn)
        index.ensure_schema()
        workflows = AgentRunClient("refund-desk", port=options["port"], api_token=API_TOKEN)
        config = ServiceConfig.model_validate(service_config(place, app_id=APP_ID))
        write_role(config.role_file, "active")
        region = Region(
            config=config,
            hosted=hosted,
            index=index,
            audit=AuditLog(index.database),
            sidecars=Sidecars([workflows]),
            store=state_store(config.app_id, server.dsn),
            role_file=RoleFile(config.role_file),
        )
        with TestClient(build_app(region, TOKEN), headers={"Authorization": f"Bearer {TOKEN}"}) as api:
            yield Desk(stack, api, index, workflows, runner, asking, server.dsn, attempts)
        for one in (runner, helper, asking):
            one.shutdown()
        workflows.close()
        index.close()


def test_what_the_api_gives_away_is_proven_and_replays(desk: Desk, tmp_path: Path) -> None:
    run_id = desk.start("exported")
    response = desk.api.get(f"/v1/runs/{run_id}/export")
    (tmp_path / "run.json").write_bytes(response.content)
    export = Export.load(tmp_path / "run.json")
    found = verify(export, desk.stack.root, SIGNER)
    assert (found.reason, found.signers, found.ended) == (None, (SIGNER,), True)
    report = desk.runner.replay(export)
    assert report.same, str(report.difference)
    assert export == desk.workflows.export(run_id, desk.stack.store())


def test_every_step_is_told_with_its_duration(desk: Desk) -> None:
    found = desk.get(f"{desk.start('looked-at')}/steps")
    assert [(one["ordinal"], one["attempt"], one["error"]) for one in found] == [(n, 1, None) for n in range(1, 15)]
    assert found[REFUND - 1]["name"] == "issue_refund"
    assert all(0 < one["seconds"] < 60 for one in found)


def test_a_history_is_read_without_a_sidecar_as_a_sidecar_tells_it(desk: Desk) -> None:
    run_id = desk.start("copied")
    store = state_store(APP_ID, desk.dsn)
    assert stored_history(store, run_id) == desk.workflows.history(run_id)
    assert stored_history(store, "nobody") == []


def test_what_is_kept_beside_a_history_is_read_without_a_sidecar_too(desk: Desk) -> None:
    desk.asker.run_sync(f"go {'x' * 200_000}", run_id="long")
    found = stored_history(state_store(APP_ID, desk.dsn), "long")
    assert found == desk.workflows.history("long")
    assert "$payload" not in found[1].model_dump_json()


def test_a_rerun_is_executed_from_where_it_was_asked_for(desk: Desk) -> None:
    run_id = desk.start("again")
    whole = desk.rerun(run_id)
    assert desk.executed(whole) == list(range(1, 15))
    part = desk.rerun(run_id, number=3, from_step=11)
    assert desk.executed(part) == [11, 12, 13, 14]
    fresh = desk.rerun(part, number=4, fresh=True)
    assert {one.key for one in desk.attempts if one.instance_id in (whole, part)} <= {f"again:{n}" for n in range(15)}
    assert {one.run_id for one in desk.attempts if one.instance_id == fresh} == {fresh}
    listed = desk.api.get("/v1/runs", params={"id_contains": "again~"}).json()["runs"]
    assert [(run["run_id"], run["rerun_of"], run["from_step"]) for run in listed] == [
        ("again~4", "again~3", None),
        ("again~3", "again", 11),
        ("again~2", "again", None),
    ]
    response = desk.api.post(f"/v1/runs/{run_id}/rerun", json={"run_id": "again~5", "from_step": 15})
    assert (response.status_code, desk.index.get("again~5")) == (422, None)
    assert "its last segment has 1 to 14" in response.json()["detail"]


def test_a_rerun_whose_region_was_lost_before_it_had_a_workflow_is_the_one_that_was_asked_for(
    desk: Desk, tmp_path: Path
) -> None:
    run_id = desk.start("lost")
    old = desk.index.get(run_id)
    assert old is not None
    desk.index.accept("lost~2", old.input, agent="refund-desk", rerun_of=run_id, rerun_step=12)
    desk.index.accept("lost~3", old.input, agent="refund-desk", rerun_of="nobody", rerun_step=12)
    later = datetime.now(UTC) + timedelta(minutes=1)
    sweeper = Sweeper(desk.index, [desk.workflows], EventLog(tmp_path / "events"), 1e9, now=lambda: later)
    asyncio.run(sweeper.look())
    asyncio.run(sweeper.look())
    sweeper.close()
    assert desk.executed(desk.ended("lost~2")) == [12, 13, 14]
    gone = desk.get("lost~3")
    assert (gone["status"], gone["error"]) == (
        "failed",
        "run nobody is unknown; only a run that has ended can be run again",
    )


def test_what_a_run_asked_another_agent_is_found_by_the_step_that_asked(desk: Desk) -> None:
    desk.asker.run_sync("go", run_id="parent")
    asking = next(step for step in desk.get("parent/steps") if step["kind"] == "child")
    assert (asking["ordinal"], asking["instance_id"], asking["error"]) == (2, "parent.2", None)
    assert asking["seconds"] > 0
    assert [step["kind"] for step in desk.get("parent.2/steps")] == ["model"]
    assert (desk.get("parent.2")["agent"], desk.get("parent.2")["status"]) == ("helper", "completed")
    assert Export.model_validate_json(desk.api.get("/v1/runs/parent.2/export").content).instance_id == "parent.2"
    with pytest.raises(ValueError, match="can't be run again from operation 2; its last segment has 1 to 3"):
        desk.workflows.task_of("parent", 2)
