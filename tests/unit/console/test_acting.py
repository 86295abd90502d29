"""What an operator does is recorded first and done by the API's own functions; a viewer does nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic_ai_dapr import Export
from service.console import run as run_page
from service.replay import Replayed

from tests.support.recorded_runs import finished, scripted
from tests.support.regions import OPERATOR, MemoryIndex, MemoryTrail, MemoryWorkflows, ToldAgent, write_role
from tests.unit.console.conftest import Person, accept

pytestmark = pytest.mark.unit

DEEDS: dict[str, dict[str, str]] = {
    "/runs/run-1/cancel": {},
    "/runs/run-1/rerun": {},
    "/runs/run-1/decide": {"tool_call_id": "x", "verdict": "approve"},
    "/runs/run-1/replay": {},
    "/regions/switchover": {"confirm": "b"},
}


def did(trail: MemoryTrail) -> list[tuple[str, str, str, str | None]]:
    """What was recorded after the signing in."""
    return [(one.action, one.subject, one.detail, one.outcome) for one in trail.entries if one.action != "sign in"]


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was asked to be replayed; the answer is that the code does the same."""
    asked: list[tuple[Any, ...]] = []

    def replayed(*given: Any) -> Replayed:
        asked.append(given)
        return Replayed(events=13, actions=5)

    monkeypatch.setattr(run_page, "replayed_apart", replayed)
    return asked


@pytest.fixture
def held(index: MemoryIndex, workflows: MemoryWorkflows) -> str:
    """The id of the call that the run `held` waits to have decided."""
    accept(index, workflows, "held")
    export = finished(scripted([[("double", 4)]]))
    history = export.history()
    asked = next(number for number, event in enumerate(history) if event.type == "taskCompleted")
    workflows.histories["held"] = history[: asked + 1]
    return history[asked].result["ok"]["parts"][0]["tool_call_id"]  # type: ignore[index,call-overload,return-value]


@pytest.mark.parametrize("deed", DEEDS)
def test_a_viewer_does_nothing(
    viewer: Person, trail: MemoryTrail, asked: list[str], ended: Export, agent: ToldAgent, deed: str
) -> None:
    before = list(asked)
    response = viewer.post(deed, **DEEDS[deed])
    assert (response.status_code, "viewers look" in response.text) == (403, True)
    assert viewer.get("/runs/run-1/history").status_code == 403
    assert (did(trail), asked) == ([], before)
    assert "/switchover" not in {one.url.path for one in agent.asked}


def test_a_viewer_is_offered_nothing(viewer: Person, ended: Export) -> None:
    assert 'class="acts"' not in viewer.get("/runs/run-1").text
    assert "An operator may switch over" in viewer.get("/regions").text


@pytest.mark.parametrize("deed", DEEDS)
def test_a_standby_does_nothing(
    operator: Person, trail: MemoryTrail, role_file: Path, ended: Export, agent: ToldAgent, deed: str
) -> None:
    write_role(role_file, "standby")
    response = operator.post(deed, **DEEDS[deed])
    assert (response.status_code, "standby; ask the active region" in response.text) == (503, True)
    assert did(trail) == []
    assert "/switchover" not in {one.url.path for one in agent.asked}


@pytest.mark.parametrize("deed", DEEDS)
def test_what_can_not_be_recorded_is_not_done(
    operator: Person, trail: MemoryTrail, workflows: MemoryWorkflows, ended: Export, agent: ToldAgent, deed: str
) -> None:
    trail.unavailable = {"begin"}
    assert operator.post(deed, **DEEDS[deed]).status_code == 503
    assert did(trail) == []
    assert (workflows.reruns, workflows.decisions) == ({}, [])
    assert "/switchover" not in {one.url.path for one in agent.asked}


def test_a_run_is_cancelled(
    operator: Person, index: MemoryIndex, workflows: MemoryWorkflows, trail: MemoryTrail
) -> None:
    accept(index, workflows, "run-1")
    response = operator.post("/runs/run-1/cancel")
    assert (response.status_code, response.headers["location"]) == (303, "/console/runs/run-1")
    assert workflows.states["run-1"].status == "terminated"
    page = operator.get("/runs/run-1").text
    assert "Run run-1 was cancelled." in page
    assert "What was done to it" in page
    assert "Run run-1 was cancelled." not in operator.get("/runs/run-1").text
    assert did(trail) == [("cancel", "run-1", "", "done")]


def test_what_is_refused_is_told_and_recorded(operator: Person, ended: Export, trail: MemoryTrail) -> None:
    response = operator.post("/runs/run-1/cancel")
    assert (response.status_code, "run run-1 is completed" in response.text) == (409, True)
    assert '<a href="/console/runs/run-1">Back</a>' in response.text
    assert did(trail) == [("cancel", "run-1", "", "refused: run run-1 is completed")]


def test_an_outcome_that_could_not_be_recorded_leaves_it_unknown(
    operator: Person, index: MemoryIndex, workflows: MemoryWorkflows, trail: MemoryTrail
) -> None:
    accept(index, workflows, "run-1")
    trail.unavailable = {"end"}
    assert operator.post("/runs/run-1/cancel").status_code == 303
    assert did(trail) == [("cancel", "run-1", "", None)]
    assert "unknown" in operator.get("/audit").text


def test_a_deed_that_failed_is_recorded_as_that(
    operator: Person, index: MemoryIndex, workflows: MemoryWorkflows, trail: MemoryTrail
) -> None:
    accept(index, workflows, "run-1")
    workflows.unavailable = True
    assert operator.post("/runs/run-1/cancel").status_code == 503
    assert did(trail) == [("cancel", "run-1", "", "failed: WorkflowUnavailableError")]


@pytest.mark.parametrize(
    ("fields", "rerun", "detail"),
    [
        ({}, None, '{"run_id":"run-1~2"}'),
        ({"from_step": ""}, None, '{"run_id":"run-1~2"}'),
        ({"from_step": "2"}, ("run-1", 2), '{"run_id":"run-1~2","from_step":2}'),
        ({"fresh": "yes"}, None, '{"run_id":"run-1~2","fresh":true}'),
    ],
)
def test_an_ended_run_is_run_again(
    operator: Person,
    workflows: MemoryWorkflows,
    trail: MemoryTrail,
    ended: Export,
    fields: dict[str, str],
    rerun: tuple[str, int] | None,
    detail: str,
) -> None:
    response = operator.post("/runs/run-1/rerun", **fields)
    assert (response.status_code, response.headers["location"]) == (303, "/console/runs/run-1~2")
    assert workflows.states["run-1~2"].status == "running"
    assert workflows.reruns.get("run-1~2") == rerun
    assert did(trail) == [("rerun", "run-1", detail, "done")]
    assert "Run run-1 is run again as run-1~2." in operator.get("/runs/run-1~2").text


def test_the_next_rerun_has_the_next_number(operator: Person, ended: Export, workflows: MemoryWorkflows) -> None:
    operator.post("/runs/run-1/rerun")
    workflows.become("run-1~2", "completed")
    assert operator.post("/runs/run-1~2/rerun").headers["location"] == "/console/runs/run-1~3"


@pytest.mark.parametrize("fields", [{"from_step": "0"}, {"from_step": "x"}, {"from_step": "2", "fresh": "yes"}])
def test_a_rerun_that_makes_no_sense_is_refused(
    operator: Person, ended: Export, index: MemoryIndex, trail: MemoryTrail, fields: dict[str, str]
) -> None:
    assert operator.post("/runs/run-1/rerun", **fields).status_code == 422
    assert set(index.runs) == {"run-1"}
    assert did(trail) == []


@pytest.mark.parametrize(("verdict", "approved"), [("approve", True), ("deny", False)])
def test_a_tool_call_is_decided_by_who_signed_in(
    operator: Person, workflows: MemoryWorkflows, trail: MemoryTrail, held: str, verdict: str, approved: bool
) -> None:
    page = operator.get("/runs/held").text
    assert "Waits for a decision: double" in page
    assert f'value="{held}"' in page
    response = operator.post("/runs/held/decide", tool_call_id=held, verdict=verdict, message=" too much ")
    assert response.headers["location"] == "/console/runs/held"
    assert workflows.decisions == [("held", held, approved, "too much", "Ada")]
    assert did(trail) == [(verdict, "held", f"{held}: too much", "done")]


def test_a_viewer_sees_what_waits_and_decides_nothing(viewer: Person, held: str) -> None:
    page = viewer.get("/runs/held").text
    assert "An operator decides" in page
    assert "Approve" not in page


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"verdict": "approve", "tool_call_id": "another"}, 409),
        ({"verdict": "approve", "tool_call_id": ""}, 422),
        ({"verdict": "perhaps", "tool_call_id": "another"}, 422),
    ],
)
def test_a_decision_that_nobody_waits_for_is_refused(
    operator: Person, workflows: MemoryWorkflows, held: str, fields: dict[str, str], status: int
) -> None:
    assert operator.post("/runs/held/decide", **fields).status_code == status
    assert workflows.decisions == []


def test_a_history_is_downloaded_as_the_api_gives_it(operator: Person, ended: Export, trail: MemoryTrail) -> None:
    response = operator.get("/runs/run-1/history")
    assert response.content == ended.content()
    assert response.headers["content-disposition"] == 'attachment; filename="run-1.json"'
    assert response.headers["cache-control"] == "no-store"
    assert did(trail) == [("download history", "run-1", "", "done")]


def test_a_run_without_a_history_has_none_to_download(
    operator: Person, index: MemoryIndex, workflows: MemoryWorkflows
) -> None:
    accept(index, workflows, "run-1")
    assert "has no beginning" in operator.get("/runs/run-1/history").text
    workflows.states.clear()
    assert "has no workflow yet" in operator.get("/runs/run-1/history").text


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (Replayed(events=13, actions=5), "Today’s code does the same: 5 actions over 13 events."),
        (Replayed(actions=2, difference="--- history\n+++ code\n-<b>1</b>"), "-&lt;b&gt;1&lt;/b&gt;"),
        (Replayed(problem="the replay did not end"), "It could not be checked: the replay did not end"),
    ],
)
def test_a_history_is_replayed_and_its_first_difference_shown(
    operator: Person, ended: Export, trail: MemoryTrail, monkeypatch: pytest.MonkeyPatch, result: Replayed, told: str
) -> None:
    monkeypatch.setattr(run_page, "replayed_apart", lambda *given: result)
    response = operator.post("/runs/run-1/replay")
    assert (response.status_code, told in response.text) == (200, True)
    assert did(trail) == [("replay", "run-1", "", "done")]


def test_what_is_replayed_is_this_deployment_s_agent(
    operator: Person, ended: Export, replays: list[tuple[Any, ...]]
) -> None:
    operator.post("/runs/run-1/replay")
    assert replays == [(ended.content(), "refund_desk.hosted:hosted", "refund_desk:deterministic", 25)]


def test_one_history_is_replayed_at_a_time(
    operator: Person, visitor: Callable[[], Person], ended: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, finish = threading.Event(), threading.Event()

    def slow(*_: Any) -> Replayed:
        begun.set()
        assert finish.wait(10)
        return Replayed()

    monkeypatch.setattr(run_page, "replayed_apart", slow)
    other = visitor()
    other.sign_in(OPERATOR)
    statuses: list[int] = []
    first = threading.Thread(target=lambda: statuses.append(operator.post("/runs/run-1/replay").status_code))
    first.start()
    assert begun.wait(10)
    assert other.post("/runs/run-1/replay").status_code == 429
    finish.set()
    first.join()
    assert statuses == [200]


def test_a_switchover_is_asked_of_the_agent_with_the_operator_s_token(
    operator: Person, agent: ToldAgent, trail: MemoryTrail
) -> None:
    response = operator.post("/regions/switchover", confirm=" b ")
    assert (response.status_code, response.headers["location"]) == (303, "/console/regions")
    [request] = [one for one in agent.asked if one.url.path == "/switchover"]
    assert (request.method, request.headers["holdfast-operator"]) == ("POST", OPERATOR)
    assert "Region b takes over" in operator.get("/regions").text
    assert did(trail) == [("switch over", "region b", "", "done")]


@pytest.mark.parametrize("confirm", ["", "a", "yes"])
def test_a_switchover_must_be_confirmed(operator: Person, agent: ToldAgent, trail: MemoryTrail, confirm: str) -> None:
    assert operator.post("/regions/switchover", confirm=confirm).status_code == 422
    assert "/switchover" not in {one.url.path for one in agent.asked}
    assert did(trail) == []


def test_a_switchover_that_the_agent_refuses_is_told(operator: Person, agent: ToldAgent, trail: MemoryTrail) -> None:
    agent.refusal = "the database of region b is no synchronous, streaming standby"
    response = operator.post("/regions/switchover", confirm="b")
    assert (response.status_code, "streaming standby" in response.text) == (409, True)
    assert did(trail)[0][3] == f"refused: {agent.refusal}"
    agent.silent = True
    response = operator.post("/regions/switchover", confirm="b")
    assert (response.status_code, "look before you try again" in response.text) == (503, True)


def test_who_signed_in_can_not_be_forged_in_the_log(visitor: Callable[[], Person], trail: MemoryTrail) -> None:
    person = visitor()
    person.sign_in(OPERATOR, "<script>alert(1)</script>")
    assert "<script>alert" not in person.get("/audit").text
    assert "&lt;script&gt;alert(1)" in person.get("/audit").text


def test_the_console_is_no_part_of_the_api_s_description(app: FastAPI, operator: Person) -> None:
    assert not [path for path in app.openapi()["paths"] if "console" in path]
    assert operator.get("/openapi.json").status_code == 404
