"""Agents inside a workflow of the user's own, between its own steps: as alone, through crashes and lost wake-ups."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic_ai import Agent, FunctionToolset, RunContext
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai_dapr import Attempt, DaprDurability, DurableAgents
from pydantic_ai_dapr.journal import Journal
from pydantic_ai_dapr.payloads import Payloads

from tests.support.durable_agents import Values, Worker, comparable
from tests.support.spans import Tree, recorded, trees
from tests.support.workflow_engine import Engine, activity_context

pytestmark = pytest.mark.unit


def _answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Stamps until it has two stamps, then tells them all."""
    stamps = [str(part.content) for one in messages for part in one.parts if isinstance(part, ToolReturnPart)]
    if len(stamps) % 2 == 0 and not isinstance(messages[-1].parts[-1], ToolReturnPart):
        calls = [ToolCallPart("stamp", tool_call_id=f"call-{len(stamps) + number}") for number in range(2)]
        return ModelResponse(parts=calls)
    return ModelResponse(parts=[TextPart(" ".join(stamps))])


def clerk(name: str = "clerk") -> Agent[None, str]:
    agent = Agent(FunctionModel(_answer), name=name, capabilities=[DaprDurability()])

    @agent.tool_plain
    async def stamp() -> str:
        return "stamped"

    return agent


@dataclass
class Desk:
    """One instance of a workflow that has agents, and the process that executes it."""

    agents: DurableAgents
    workflow: Callable[..., Generator[Any, Any, Any]]
    steps: list[str] = field(default_factory=list)
    """The workflow's own steps, as they were executed."""
    attempts: list[Attempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.values = Values()
        self.agents.journal = Journal(Payloads(self.values), lambda instance_id: [])
        self.engine = Engine(self.workflow, instance_id="order-1", input="7")
        self.replace_worker()

    def replace_worker(self) -> None:
        """Forget what a process would have in memory."""
        self.agents.kept.clear()
        worker = Worker(self.agents, self.engine, self.values, self.attempts)
        self.backends = [one.get_durable_operation_backend() for one in self.agents.durabilities]
        for backend in self.backends:
            backend.executor = worker

    def serve(self, name: str, value: Any) -> Any:
        for backend in self.backends:
            if name in backend.activities:
                task = next(event for event in self.engine.history if event.value is value)
                wire = json.loads(json.dumps(value))
                return json.loads(json.dumps(backend.activities[name](activity_context("order-1", task), wire)))
        self.steps.append(name)
        return f"{name}({value})"

    def began(self) -> list[str]:
        """The keys of the operations that were begun, in order."""
        return [attempt.key for attempt in self.attempts if attempt.phase == "started"]


def ordering(agent: Agent[None, str], agents: DurableAgents) -> Callable[..., Generator[Any, Any, Any]]:
    def order(ctx: Any, number: str) -> Generator[Any, Any, Any]:
        found = yield ctx.call_activity("find", input=number)
        first = yield from agents.run(ctx, lambda: agent.run(found))
        booked = yield ctx.call_activity("book", input=first.output)
        second = yield from agents.run(ctx, lambda: agent.run(booked, message_history=first.all_messages()))
        sent = yield ctx.call_activity("send", input=len(second.output.split()))
        return {"sent": sent, "first": first.all_messages(), "second": second.all_messages(), "ids": _ids(second)}

    return order


def _ids(result: Any) -> list[str]:
    return [message.run_id for message in result.all_messages()]


def desk(agent: Agent[None, str] | None = None, kept_runs: int = 256) -> Desk:
    agent = agent or clerk()
    agents = DurableAgents([agent], port=1, kept_runs=kept_runs)
    return Desk(agents, ordering(agent, agents))


def test_an_agent_between_the_workflows_own_steps_gives_what_it_gives_alone() -> None:
    made = desk()
    result = made.engine.run(made.serve)
    first = clerk().run_sync("find(7)")
    second = clerk().run_sync("book(stamped stamped)", message_history=first.all_messages())
    assert result["sent"] == "send(4)"
    assert made.steps == ["find", "book", "send"]
    assert comparable(result["second"]) == comparable(second.all_messages())


def test_an_agent_may_have_its_tools_from_a_decorated_toolset() -> None:
    agent = Agent(FunctionModel(_answer), name="clerk", capabilities=[DaprDurability()])

    @agent.toolset(id="stamps")
    def stamps(ctx: RunContext[None]) -> FunctionToolset[None]:
        tools: FunctionToolset[None] = FunctionToolset()
        tools.tool_plain(lambda: "stamped", name="stamp")
        return tools

    made = desk(agent)
    assert made.engine.run(made.serve)["sent"] == "send(4)"


def test_no_two_operations_of_a_workflow_have_one_key_or_two_runs_one_id() -> None:
    made = desk()
    result = made.engine.run(made.serve)
    assert made.began() == [f"order-1:{number}" for number in range(1, 9)]
    assert len(set(result["ids"])) == 2


@pytest.mark.parametrize("crash", range(11))
def test_a_worker_that_is_killed_at_any_step_repeats_none(crash: int) -> None:
    made = desk()
    made.engine.turn()
    served = 0
    while not made.engine.ended:
        for number in list(made.engine.wakeups):
            if served == crash:
                made.replace_worker()
            made.engine.serve(number, made.serve)
            served += 1
        made.engine.turn()
    assert served == 11
    assert made.steps == ["find", "book", "send"]
    assert made.began() == [f"order-1:{number}" for number in range(1, 9)]
    assert made.engine.result["sent"] == "send(4)"


def traces(run: Callable[[], object]) -> list[tuple[int, Tree]]:
    """The traces of what is run, each with its identifier, in their order."""
    with recorded() as recorder:
        run()
        spans = recorder.take()
    identifiers = dict.fromkeys(span.context.trace_id for span in spans)
    return [(one, *trees([span for span in spans if span.context.trace_id == one])) for one in identifiers]


def killed_at_every_step(made: Desk) -> None:
    made.engine.turn()
    while not made.engine.ended:
        for number in list(made.engine.wakeups):
            made.replace_worker()
            made.engine.serve(number, made.serve)
        made.replace_worker()
        made.engine.turn()


def test_each_agent_in_a_workflow_has_one_trace_as_alone_wherever_it_goes_on() -> None:
    def alone() -> None:
        first = clerk().run_sync("find(7)")
        clerk().run_sync("book(stamped stamped)", message_history=first.all_messages())

    kept, replayed, killed = desk(), desk(kept_runs=0), desk()
    found = traces(lambda: kept.engine.run(kept.serve))
    assert [tree for _, tree in found] == [tree for _, tree in traces(alone)]
    assert [tree.name for _, tree in found] == ["invoke_agent clerk"] * 2
    assert traces(lambda: replayed.engine.run(replayed.serve)) == found
    assert traces(lambda: killed_at_every_step(killed)) == found


def test_a_later_part_of_the_workflow_hears_recover() -> None:
    made = desk()
    made.engine.turn()
    while len(made.began()) < 5:  # into the second part
        for number in list(made.engine.wakeups):
            made.engine.serve(number, made.serve)
        made.engine.turn()
    made.engine.fail_over("epoch 2")
    made.replace_worker()
    made.engine.turn()
    assert made.engine.run_on(made.serve)["sent"] == "send(4)"
    assert sorted(set(made.began())) == [f"order-1:{number}" for number in range(1, 9)]


def test_a_recover_between_two_parts_disturbs_neither() -> None:
    made = desk()
    made.engine.turn()
    while "book" not in made.steps:
        for number in list(made.engine.wakeups):
            made.engine.serve(number, made.serve)
        if "book" in made.steps:
            made.engine.signal("epoch 2")
        made.engine.turn()
    assert made.engine.run_on(made.serve)["sent"] == "send(4)"
    assert made.began() == [f"order-1:{number}" for number in range(1, 9)]


def test_agents_run_at_the_same_time_in_one_part() -> None:
    one, two = clerk("one"), clerk("two")
    agents = DurableAgents([one, two], port=1)

    async def both() -> list[str]:
        return [result.output for result in await asyncio.gather(one.run("go"), two.run("go"))]

    def order(ctx: Any, number: str) -> Generator[Any, Any, Any]:
        return (yield from agents.run(ctx, both, run_id="logical"))

    made = Desk(agents, order)
    made.engine.turn()
    assert len(made.engine.wakeups) == 2
    assert made.engine.run_on(made.serve) == ["stamped stamped"] * 2
    assert sorted(made.began()) == [f"logical:{number}" for number in range(1, 9)]


def test_what_an_agent_raises_the_workflow_can_catch_and_go_on() -> None:
    def refuse(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise ModelHTTPError(400, "m", {"error": "no"})

    broken, spare = Agent(FunctionModel(refuse), name="broken", capabilities=[DaprDurability()]), clerk()
    agents = DurableAgents([broken, spare], port=1)

    def order(ctx: Any, number: str) -> Generator[Any, Any, Any]:
        try:
            yield from agents.run(ctx, lambda: broken.run("go"))
        except ModelHTTPError as error:
            result = yield from agents.run(ctx, lambda: spare.run("go"))
            return error.status_code, result.output

    made = Desk(agents, order)
    assert made.engine.run(made.serve) == (400, "stamped stamped")
    assert made.began() == [f"order-1:{number}" for number in range(1, 6)]


def test_a_workflow_with_agents_cannot_use_its_keys_again() -> None:
    agent = clerk()
    agents = DurableAgents([agent], port=1)

    def order(ctx: Any, number: str) -> Generator[Any, Any, Any]:
        yield from agents.run(ctx, lambda: agent.run("go"))
        ctx.continue_as_new("next", save_events=True)

    made = Desk(agents, order)
    with pytest.raises(RuntimeError, match=r"can't continue as new.*child workflow"):
        made.engine.run(made.serve)


def test_an_agent_that_is_not_durable_is_refused() -> None:
    with pytest.raises(ValueError, match="agent 'plain' is not durable"):
        DurableAgents([Agent("test", name="plain")])
