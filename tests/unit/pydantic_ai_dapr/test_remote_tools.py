"""Tools in another app are for the agent as its own ones, and a call that is denied is told, recorded and final."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, FunctionToolset, ModelRetry, RunContext
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.tools import ToolDefinition
from pydantic_ai_dapr import (
    Attempt,
    DaprDurability,
    Denial,
    RemoteToolset,
    Retry,
    ToolDeniedError,
    ToolHost,
    WorkflowUnavailableError,
    access_policy,
    current_operation,
    declared,
    remote_tools,
)
from pydantic_ai_dapr.remote_tools import REMOTE_CALL, remote_call

from tests.support.durable_agents import DurableRun, comparable
from tests.support.neighbour import Neighbour, failed
from tests.support.workflow_engine import Engine

pytestmark = pytest.mark.unit


@dataclass
class Customer:
    """Dependencies."""

    name: str


class Order(BaseModel):
    """The only argument of a tool."""

    number: int


class Away(ConnectionError):
    """An error that the agent's app can't make again from its message."""

    def __init__(self, code: int, where: str) -> None:
        super().__init__(f"{where} answered {code}")


def desk() -> FunctionToolset[Customer]:
    toolset: FunctionToolset[Customer] = FunctionToolset(id="desk")

    @toolset.tool
    def look_up(ctx: RunContext[Customer], order: int) -> dict[str, Any]:
        """Look an order up."""
        return {"order": order, "of": ctx.deps.name, "as": ctx.tool_name, "step": ctx.run_step, "retry": ctx.retry}

    @toolset.tool_plain
    async def even(order: int) -> int:
        if order % 2:
            raise ModelRetry("an even number, please")
        return order

    @toolset.tool_plain
    def closed(order: int) -> int:
        raise ToolFailed("closed today")

    @toolset.tool_plain
    def refund(order: int) -> str:
        return f"refunded {order}"

    return toolset


def script(*turns: list[Any]) -> FunctionModel:
    """A model whose n-th request is answered with the n-th turn."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        made = sum(isinstance(message, ModelResponse) for message in messages)
        parts = [TextPart(part) if isinstance(part, str) else ToolCallPart(*part) for part in turns[made]]
        return ModelResponse(parts=parts)

    return FunctionModel(answer)


def clerk(model: FunctionModel, *toolsets: Any) -> Agent[Any, Any]:
    return Agent(
        model,
        name="agent",
        deps_type=Customer,
        toolsets=toolsets,
        capabilities=[DaprDurability(retry=Retry(attempts=3, first_seconds=1))],
    )


class World:
    """An agent with remote tools, and the app that hosts them."""

    def __init__(self, model: FunctionModel, toolset: FunctionToolset[Any] | None = None, **options: Any) -> None:
        self.toolset = toolset or desk()
        allowed: list[str] | None = options.pop("allowed", None)
        policy = access_policy("tools", ["agents"], self.toolset, allowed) if allowed is not None else None
        self.hosted: list[Attempt] = []
        self.denials: list[Denial] = []
        host = ToolHost(self.toolset, deps_type=Customer, port=1, on_attempt=self.hosted.append)
        self.neighbour = Neighbour(host, policy)
        seen: FunctionToolset[Any] = options.pop("seen", self.toolset)
        remote = RemoteToolset(seen, app_id="tools", on_denied=self.denials.append, **options)
        self.run = DurableRun(clerk(model, remote), deps=Customer("Ada"))
        self.connect()

    def connect(self) -> None:
        for tools in self.run.backend.remote_tools:
            tools.connect(self.neighbour)

    def finish(self) -> tuple[Any, list[ModelMessage]]:
        return self.run.finish()

    def told(self) -> list[Any]:
        """What the tools have answered."""
        _, messages = self.finish()
        return [part.content for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]

    def started(self) -> list[tuple[str, int]]:
        return [(one.key, one.attempt) for one in self.hosted if one.phase == "started" and not one.joined]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_tools, "PAUSE_SECONDS", 0.0)


SCRIPTS: list[Any] = [
    script([("look_up", {"order": 7})], [("refund", {"order": 8})], ["done"]),
    script([("look_up", {"order": 7}), ("refund", {"order": 8}), ("look_up", {"order": 9})], ["done"]),
    script([("even", {"order": 7})], [("even", {"order": 8})], ["done"]),
    script([("look_up", {"order": "x"})], [("look_up", {"order": 1})], ["done"]),
    script([("closed", {"order": 7})], ["done"]),
]
SCRIPT_NAMES = ["one by one", "parallel", "model retry", "invalid arguments", "tool failed"]


@pytest.mark.parametrize("model", SCRIPTS, ids=SCRIPT_NAMES)
def test_a_run_with_remote_tools_equals_a_plain_one_with_its_own(model: FunctionModel) -> None:
    plain = clerk(model, desk()).run_sync("go", deps=Customer("Ada"))
    output, messages = World(model).finish()
    assert output == plain.output
    assert comparable(messages) == comparable(plain.all_messages())


@pytest.mark.parametrize("model", SCRIPTS, ids=SCRIPT_NAMES)
def test_a_worker_lost_at_every_turn_changes_nothing(model: FunctionModel) -> None:
    plain = clerk(model, desk()).run_sync("go", deps=Customer("Ada"))
    world = World(model)
    run = world.run
    run.engine.turn()
    while not run.engine.ended:
        run.replace_worker()
        run.engine.fail_over()
        run.engine.turn()
        run.replace_worker()
        for number in list(run.engine.wakeups):
            run.engine.serve(number, run.serve)
        run.engine.turn()
    output, messages = world.finish()
    assert output == plain.output
    assert comparable(messages) == comparable(plain.all_messages())
    assert len(world.started()) == len(set(world.started()))


def test_a_hosted_tool_knows_the_callers_idempotency_key() -> None:
    toolset: FunctionToolset[Any] = FunctionToolset(id="desk")
    seen: list[tuple[str, str, int]] = []

    @toolset.tool_plain
    def note() -> None:
        operation = current_operation()
        seen.append((operation.key, operation.name, operation.attempt))

    world = World(script([("note", {})], ["done"]), toolset)
    world.finish()
    assert seen == [("run-1:2", "note", 1)]
    assert [(one.key, one.phase) for one in world.hosted] == [("run-1:2", "started"), ("run-1:2", "ended")]
    assert world.neighbour.started == ["run-1.2.1.remote"]


def test_a_denied_call_is_told_to_the_model_and_recorded(caplog: pytest.LogCaptureFixture) -> None:
    model = script([("refund", {"order": 7})], [("look_up", {"order": 7})], ["sorry"])
    world = World(model, allowed=["look_up"])
    with caplog.at_level(logging.WARNING, "pydantic_ai_dapr"):
        output, messages = world.finish()
    assert output == "sorry"
    returned = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
    assert [part.outcome for part in returned] == ["failed", "success"]
    assert returned[0].content == "The access policy of app 'tools' denies the tool 'refund'."
    (denial,) = world.denials
    assert (denial.run_id, denial.key, denial.attempt) == ("run-1", "run-1:2", 1)
    assert (denial.toolset, denial.tool, denial.app_id, denial.caller) == ("desk", "refund", "tools", "agents")
    assert "run run-1: app 'tools' denied app 'agents' the tool 'refund' of toolset 'desk'" in caplog.text
    answers = [event.value for event in world.run.engine.history if event.kind == "completed"]
    assert [answer["err"]["type"] for answer in answers if "err" in answer] == ["ToolDeniedError"]
    assert world.started() == [("run-1:4", 1)]


def test_a_denied_call_fails_the_run_where_the_caller_is_to_know() -> None:
    world = World(script([("refund", {"order": 7})]), allowed=[], denied="raise")
    with pytest.raises(ToolDeniedError, match="'refund'"):
        world.finish()
    attempts = [attempt.attempt for attempt in world.run.attempts if attempt.name == "refund"]
    assert attempts == [1, 1]  # started and ended, not tried again
    assert len(world.denials) == 1


@pytest.mark.parametrize(
    "text", ["activity failure missing required attestation for task 1", "denied by workflow access policy"]
)
def test_a_denial_is_known_where_histories_are_signed_too(text: str) -> None:
    world = World(script([("refund", {"order": 7})], ["sorry"]))
    world.neighbour.ends = lambda instance_id: failed(instance_id, "DAPR_WORKFLOW_HISTORY_TAMPERED", text)
    assert world.finish()[0] == "sorry"
    assert len(world.denials) == 1


def test_a_denial_is_told_although_the_sidecar_does_not_say_whose_it_is() -> None:
    world = World(script([("refund", {"order": 7})], ["sorry"]), allowed=[])
    world.neighbour.failures = iter([None, None, WorkflowUnavailableError("gone")])
    world.finish()
    assert [denial.caller for denial in world.denials] == ["unknown"]


def test_a_call_whose_answer_was_lost_is_made_again_by_another_workflow() -> None:
    world = World(script([("refund", {"order": 7})], ["done"]))
    lost = failed("", "DAPR_WORKFLOW_HISTORY_TAMPERED", "activity completion references unknown task scheduled id 1")
    world.neighbour.ends = lambda instance_id: lost if instance_id == "run-1.2.1.remote" else None
    assert world.finish()[0] == "done"
    assert world.neighbour.started == ["run-1.2.1.remote", "run-1.2.2.remote"]
    assert world.started() == [("run-1:2", 2)]


def test_a_call_that_was_ended_by_somebody_fails_the_run() -> None:
    world = World(script([("refund", {"order": 7})]))
    ended = failed("", "Terminated", "by hand").model_copy(update={"status": "terminated", "error": None})
    world.neighbour.ends = lambda instance_id: ended
    with pytest.raises(RuntimeError, match="the call of refund in app tools is terminated"):
        world.finish()


def test_a_tools_error_that_may_pass_is_tried_again_under_the_same_key() -> None:
    toolset: FunctionToolset[Any] = FunctionToolset(id="desk")
    answers = iter([TimeoutError("slow"), Away(503, "desk"), "noted"])

    @toolset.tool_plain
    def note() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    world = World(script([("note", {})], ["done"]), toolset)
    assert world.told() == ["noted"]
    assert world.started() == [("run-1:2", 1), ("run-1:2", 2), ("run-1:2", 3)]


@pytest.mark.parametrize(("error", "kind"), [(ValueError("no"), ValueError), (ZeroDivisionError("no"), Exception)])
def test_a_tools_error_fails_the_run_as_a_local_ones_does(error: Exception, kind: type[Exception]) -> None:
    toolset: FunctionToolset[Any] = FunctionToolset(id="desk")

    @toolset.tool_plain
    def breaks() -> str:
        raise error

    with pytest.raises(kind, match="no"):
        World(script([("breaks", {})]), toolset).finish()


def test_a_tool_whose_code_is_elsewhere_has_its_arguments_checked_there() -> None:
    definitions = [tool.tool_def for tool in desk().tools.values()]
    carried = declared(definitions, id="desk")
    model = script([("look_up", {"order": "x"})], [("look_up", {"order": 5})], ["done"])
    world = World(model, seen=carried)
    output, messages = world.finish()
    assert output == "done"
    plain = clerk(model, desk()).run_sync("go", deps=Customer("Ada"))
    returned = [one for one in comparable(messages) if one["kind"] == "request"][-1]["parts"][0]["content"]
    assert returned == {"order": 5, "of": "Ada", "as": "look_up", "step": 2, "retry": 1}
    assert [one["kind"] for one in comparable(messages)] == [one["kind"] for one in comparable(plain.all_messages())]
    with pytest.raises(RuntimeError, match="wrap its toolset in a RemoteToolset"):
        clerk(script([("refund", {"order": 7})]), carried).run_sync("go", deps=Customer("Ada"))


def test_a_prefix_is_for_the_model_alone() -> None:
    toolset = desk()
    neighbour = Neighbour(ToolHost(toolset, deps_type=Customer, port=1))
    agent = clerk(script([("far_refund", {"order": 7})], ["done"]), RemoteToolset(toolset, "tools").prefixed("far"))
    run = DurableRun(agent, deps=Customer("Ada"))
    for tools in run.backend.remote_tools:
        tools.connect(neighbour)
    assert run.finish()[0] == "done"
    assert [activity for _, activity, _ in neighbour.served] == ["tool.desk.refund"]


def test_a_tool_that_renames_itself_is_refused() -> None:
    async def renamed(ctx: RunContext[Any], definition: ToolDefinition) -> ToolDefinition:
        return replace(definition, name="other")

    toolset: FunctionToolset[Any] = FunctionToolset(id="desk")

    @toolset.tool_plain(prepare=renamed)
    def refund(order: int) -> None: ...

    with pytest.raises(ValueError, match=r"no tool 'other'.* has \['refund'\].*prefixed\(\) or renamed\(\)"):
        World(script([("other", {"order": 7})]), toolset).finish()


def test_outside_a_durable_run_a_remote_tool_says_what_to_do() -> None:
    agent = clerk(script([("refund", {"order": 7})]), RemoteToolset(desk(), app_id="tools"))
    with pytest.raises(RuntimeError, match="run the agent with DaprWorkflowAgentRunner"):
        agent.run_sync("go", deps=Customer("Ada"))


def test_a_call_outlasts_a_sidecar_that_does_not_answer() -> None:
    world = World(script([("refund", {"order": 7})], ["done"]))
    gone = WorkflowUnavailableError("gone")
    world.neighbour.failures = iter([gone, gone, None, gone, gone])
    assert world.told() == ["refunded 7"]
    assert world.neighbour.started == ["run-1.2.1.remote"]


def test_a_call_that_is_removed_meanwhile_is_begun_again() -> None:
    world = World(script([("refund", {"order": 7})], ["done"]))
    remove = iter([True])

    def ends(instance_id: str) -> None:
        if next(remove, False):
            del world.neighbour.engines[instance_id]

    world.neighbour.ends = ends
    assert world.told() == ["refunded 7"]
    assert world.neighbour.started == ["run-1.2.1.remote"] * 2


@pytest.mark.parametrize("answered", [False, True])
def test_a_call_that_a_lost_worker_began_is_taken_over(answered: bool) -> None:
    model = script([("refund", {"order": 7})], ["done"])
    before = World(model)
    before.finish()
    ((instance_id, activity, payload),) = before.neighbour.served
    world = World(model)
    neighbour = world.neighbour
    neighbour.start(instance_id, REMOTE_CALL, {"activity": activity, "app_id": "tools", "payload": payload}, 1)
    if answered:
        neighbour.bring_to_its_end(instance_id)
    assert world.told() == ["refunded 7"]
    assert [event for event, _ in neighbour.events] == ([] if answered else [instance_id])
    assert len(world.started()) == 1


def test_a_second_delivery_to_the_agents_worker_asks_the_tools_app_again() -> None:
    toolset: FunctionToolset[Any] = FunctionToolset(id="desk")
    entered, release = threading.Event(), threading.Event()

    @toolset.tool_plain
    def slow() -> str:
        entered.set()
        assert release.wait(10)
        return "done"

    world = World(script([("slow", {})], ["done"]), toolset)
    run = world.run
    run.engine.turn()
    run.engine.serve(1, run.serve)
    run.engine.turn()
    (number,) = run.engine.wakeups
    event = run.engine.wakeups[number]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run.serve, event.name, event.value)
        assert entered.wait(10)
        second = pool.submit(run.serve, event.name, event.value)
        while not world.neighbour.events:
            assert not second.done()
        world.neighbour.failures = iter([WorkflowUnavailableError("gone")])
        release.set()
        assert first.result(10) == second.result(10)
    assert [instance_id for instance_id, _ in world.neighbour.events] == ["run-1.2.1.remote"]
    assert len(world.started()) == 1


@pytest.mark.parametrize(("asked", "answered"), [(900_000, 1), (1, 900_000)])
def test_what_is_too_large_for_a_call_is_refused(asked: int, answered: int) -> None:
    toolset: FunctionToolset[Any] = FunctionToolset(id="desk")

    @toolset.tool_plain
    def note(text: str) -> str:
        return "x" * answered

    world = World(script([("note", {"text": "x" * asked})]), toolset)
    with pytest.raises(Exception, match="keep such data in a store that both apps reach"):
        world.finish()


def test_what_is_left_of_a_call_is_removed() -> None:
    world = World(script([("refund", {"order": 7})], ["done"]))
    world.finish()
    while not world.neighbour.purged:
        pass
    assert world.neighbour.engines == {}


def test_a_call_is_made_again_at_recover_and_its_first_answer_counts() -> None:
    call = {"activity": "tool.desk.refund", "app_id": "tools", "payload": {"order": 7}}
    engine = Engine(remote_call(), "call", call)
    engine.turn()
    engine.fail_over("token")
    engine.turn()
    assert [(event.name, event.value, event.app_id) for event in engine.wakeups.values()] == [
        ("tool.desk.refund", {"order": 7}, "tools")
    ]
    assert engine.run_on(lambda name, value: {"ok": value}) == {"ok": {"order": 7}}


@dataclass
class Door:
    """A tool host's activities, called by hand with what an agent has sent."""

    toolset: FunctionToolset[Any]

    def __post_init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.host = ToolHost(self.toolset, deps_type=Customer, port=1, on_attempt=self.attempts.append)
        self.activities = self.host.activities()
        world = World(script([("refund", {"order": 7})], ["done"]))
        world.finish()
        ((self.caller, _, self.sent),) = world.neighbour.served

    def call(self, activity: str, args: dict[str, Any], caller: str | None = None, **claims: Any) -> Any:
        payload = self.sent | {"params": self.sent["params"] | {"args": args}} | claims
        context = SimpleNamespace(workflow_id=caller or self.caller, task_id=1)
        return self.activities[activity](context, json.loads(json.dumps(payload)))


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door(desk())
    yield made
    made.host.shutdown()


def test_each_tool_is_an_activity_of_its_own_name(door: Door) -> None:
    names = ["tool.desk.look_up", "tool.desk.even", "tool.desk.closed", "tool.desk.refund"]
    assert list(door.activities) == names
    assert [activity.__name__ for activity in door.activities.values()] == names


def test_the_activity_that_was_allowed_is_the_tool_whatever_its_message_says(door: Door) -> None:
    params = door.sent["params"] | {"name": "refund", "args": {"order": 7}}
    answer = door.call("tool.desk.look_up", {}, name="refund", params=params)
    assert answer["ok"]["result"]["of"] == "Ada"
    assert [attempt.name for attempt in door.attempts] == ["look_up"] * 2


def test_a_caller_who_takes_anothers_ids_does_not_get_its_answer(door: Door) -> None:
    assert door.call("tool.desk.refund", {"order": 7})["ok"]["result"] == "refunded 7"
    assert door.call("tool.desk.refund", {"order": 8})["ok"]["result"] == "refunded 8"
    assert door.call("tool.desk.even", {"order": 8})["ok"]["result"] == 8
    assert len(door.attempts) == 6


def test_a_late_second_delivery_gets_the_answer_of_the_first(door: Door) -> None:
    first = door.call("tool.desk.refund", {"order": 7})
    while door.call("tool.desk.refund", {"order": 7}) is not first:
        pass
    assert [attempt.key for attempt in door.attempts if attempt.phase == "ended"] == ["run-1:2"]


def test_a_second_delivery_joins_the_running_call() -> None:
    toolset: FunctionToolset[Any] = FunctionToolset(id="desk")
    entered, release, runs = threading.Event(), threading.Event(), list[int]()

    @toolset.tool_plain
    def refund(order: int) -> str:
        runs.append(order)
        entered.set()
        assert release.wait(10)
        return "done"

    door = Door(toolset)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(door.call, "tool.desk.refund", {"order": 7})
        assert entered.wait(10)
        second = pool.submit(door.call, "tool.desk.refund", {"order": 7})
        while len(door.attempts) < 2:
            assert not second.done()
        release.set()
        assert first.result(10) == second.result(10)
    assert runs == [7]
    door.host.shutdown()


def test_a_tools_own_check_of_its_arguments_is_made_by_its_host() -> None:
    toolset: FunctionToolset[Any] = FunctionToolset(id="desk")

    async def small(ctx: RunContext[Any], amount: int) -> None:
        if amount > 10:
            raise ModelRetry("at most 10, please")

    def odd(ctx: RunContext[Any], amount: int) -> None:
        if amount % 2 == 0:
            raise ModelRetry("an odd amount, please")

    @toolset.tool_plain(args_validator=small)
    def pay(amount: int) -> str:
        return f"paid {amount}"

    @toolset.tool_plain(args_validator=odd)
    def owe(amount: int) -> str:
        return f"owed {amount}"

    turns = [[("pay", {"amount": 99})], [("pay", {"amount": 9})], [("owe", {"amount": 8})], [("owe", {"amount": 7})]]
    told = World(script(*turns, ["done"]), toolset).told()
    assert [text for text in told if "please" not in str(text)] == ["paid 9", "owed 7"]


def test_a_tool_with_one_model_as_its_argument_gets_it() -> None:
    toolset: FunctionToolset[Any] = FunctionToolset(id="desk")

    @toolset.tool_plain
    def take(order: Order) -> str:
        return f"order {order.number}"

    assert World(script([("take", {"number": 7})], ["done"]), toolset).told() == ["order 7"]


def test_a_policy_names_the_activities_that_callers_may_execute() -> None:
    assert access_policy("tools", ["agents", "clerks"], desk(), ["look_up"]) == {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "WorkflowAccessPolicy",
        "metadata": {"name": "tools-desk"},
        "scopes": ["tools"],
        "spec": {
            "rules": [
                {
                    "callers": [{"appID": "agents"}, {"appID": "clerks"}],
                    "activities": [{"name": "tool.desk.look_up"}],
                }
            ]
        },
    }
    assert len(access_policy("tools", ["agents"], desk())["spec"]["rules"][0]["activities"]) == 4
    assert access_policy("tools", ["agents"], desk(), [])["spec"]["rules"] == []


def test_a_policy_that_would_not_do_what_it_says_is_refused() -> None:
    with pytest.raises(ValueError, match=r"toolset 'desk' has no \['lookup'\]"):
        access_policy("tools", ["agents"], desk(), ["lookup"])
    with pytest.raises(ValueError, match="app id of at least one caller"):
        access_policy("tools", [], desk())
    with pytest.raises(ValueError, match=r"the toolset name 'a\.b' can't stand in an access policy"):
        access_policy("tools", ["agents"], FunctionToolset([desk().tools["refund"]], id="a.b"))
    with pytest.raises(ValueError, match=r"the tool name 'all\*' can't stand"):
        RemoteToolset(declared([ToolDefinition(name="all*")], id="desk"), app_id="tools")
    with pytest.raises(ValueError, match="needs an id"):
        ToolHost(FunctionToolset([desk().tools["refund"]]), port=1)
