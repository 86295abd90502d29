"""A run waits for answers for as long as it takes; what it has done is told from its history."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from pydantic_ai_dapr import current_operation

from tests.support import graphs
from tests.support.durable_graphs import RUN, DurableGraphRun

pytestmark = pytest.mark.unit
GIVEN: Any = {"number": 0, "log": ["given"]}
lost = pytest.mark.parametrize("lost", ["nothing", "worker", "worker and wake-ups"])


def answered_plainly(graph: graphs.Graph, answers: list[Any], given: Any = GIVEN) -> Any:
    config: Any = {"configurable": {"thread_id": RUN}}
    output = asyncio.run(graph.ainvoke(given, config))
    for answer in answers:
        output = asyncio.run(graph.ainvoke(Command(resume=answer), config))
    return output


def lose(run: DurableGraphRun, what: str) -> None:
    if what != "nothing":
        run.replace_worker()
    if what == "worker and wake-ups":
        assert run.engine is not None
        run.engine.fail_over()


@lost
@pytest.mark.parametrize("segment_answers", [1, 100])
def test_a_node_that_asks_goes_on_with_the_answers(lost: str, segment_answers: int) -> None:
    run = DurableGraphRun(graphs.asking(), GIVEN, segment_answers=segment_answers)
    for question, answer in (("your name?", "Ada"), ({"ask": "your age?", "name": "Ada"}, 36)):
        run.go_on()
        (asked,) = run.runner.interrupts(RUN)
        assert (asked.node, asked.value) == ("ask", question)
        lose(run, lost)
        run.runner.resume(RUN, answer)
    assert run.finish() == answered_plainly(graphs.asking(InMemorySaver()), ["Ada", 36])
    assert run.runner.interrupts(RUN) == []
    assert sorted(run.executed()) == [("ask", 2)] * 3 + [("first", 1), ("last", 4), ("other", 3)]


def test_several_interrupts_are_answered_by_id_in_any_order() -> None:
    def ask(question: str) -> Any:
        return lambda state: {"log": [interrupt(question)]}

    graph = StateGraph(graphs.State).add_node("a", ask("a?")).add_node("b", ask("b?"))
    run = DurableGraphRun(graph.add_edge(START, "a").add_edge(START, "b").compile(), GIVEN)
    run.go_on()
    ids = {one.value: one.id for one in run.runner.interrupts(RUN)}
    with pytest.raises(ValueError, match="waits for answers by id to some of"):
        run.runner.resume(RUN, "which?")
    run.runner.resume(RUN, {ids["b?"]: "B"})
    run.go_on()
    assert [one.node for one in run.runner.interrupts(RUN)] == ["a"]
    run.runner.resume(RUN, {ids["a?"]: "A"})
    assert run.finish()["log"] == ["given", "A", "B"]
    with pytest.raises(ValueError, match="waits for no answer"):
        run.runner.resume(RUN, "again")


def test_a_node_that_is_executed_again_for_its_answer_has_the_same_key() -> None:
    keys: list[str] = []

    def ask(state: graphs.State) -> graphs.State:
        keys.append(current_operation().key)
        return {"log": [interrupt("?")]}

    run = DurableGraphRun(StateGraph(graphs.State).add_node(ask).add_edge(START, "ask").compile(), GIVEN)
    run.go_on()
    run.runner.resume(RUN, "yes")
    run.finish()
    assert keys == [f"{RUN}:1"] * 2


def test_a_subgraph_that_a_nodes_function_calls_goes_on_where_it_asked() -> None:
    ran: list[str] = []

    def before(state: graphs.State) -> graphs.State:
        ran.append("before")
        return {"log": ["before"]}

    inner = StateGraph(graphs.State).add_node(before).add_node("ask", lambda state: {"log": [interrupt("?")]})
    called = inner.add_edge(START, "before").add_edge("before", "ask").compile()
    outer = StateGraph(graphs.State).add_node("calls", lambda state: {"log": called.invoke({"log": []})["log"]})
    run = DurableGraphRun(outer.add_edge(START, "calls").compile(), GIVEN)
    run.go_on()
    run.replace_worker()
    run.runner.resume(RUN, "yes")
    assert run.finish()["log"] == ["given", "before", "yes"]
    assert ran == ["before"]


@lost
@pytest.mark.parametrize("where", [{"interrupt_before": ["third"]}, {"interrupt_after": ["second"]}])
def test_a_breakpoint_waits_until_the_run_is_resumed(lost: str, where: Any) -> None:
    sequential = graphs.sequential().builder.compile(**where)
    run = DurableGraphRun(sequential, GIVEN)
    run.go_on()
    state = run.runner.get_state(RUN)
    assert state is not None
    assert (state.next, state.values["log"]) == (("third",), ["given", "first", "second"])
    assert [(one.node, one.value) for one in state.interrupts] == [("third", None)]
    lose(run, lost)
    run.runner.resume(RUN)
    assert run.finish() == asyncio.run(graphs.sequential().ainvoke(GIVEN))


def test_a_subgraph_with_a_memory_of_its_own_keeps_it_between_its_calls() -> None:
    inner = StateGraph(graphs.State).add_node("one", graphs.says("one")).add_edge(START, "one")

    def build(checkpointer: Any) -> graphs.Graph:
        outer = StateGraph(graphs.State).add_node("inner", inner.compile(checkpointer=True))
        outer.add_node("again", lambda state: {"number": state["number"]}).add_edge(START, "inner")
        outer.add_edge("inner", "again")
        outer.add_conditional_edges("again", lambda state: "inner" if len(state["log"]) < 9 else "__end__")
        return outer.compile(checkpointer)

    assert DurableGraphRun(build(None), GIVEN).finish() == answered_plainly(build(InMemorySaver()), [])


def test_checkpoints_are_the_state_after_each_step() -> None:
    run = DurableGraphRun(graphs.fan_out(), GIVEN)
    run.finish()
    found = run.runner.checkpoints(RUN)
    assert [(one.step, one.next) for one in found] == [
        (-1, ("__start__",)),
        (0, ("split",)),
        (1, ("left", "middle", "right")),
        (2, ("join",)),
        (3, ()),
    ]
    assert [one.values.get("log", [])[-1:] for one in found] == [[], ["given"], ["split"], ["right2"], ["join5"]]
    assert found[1].at < found[2].at < found[3].at < found[4].at


@pytest.mark.parametrize("segment_answers", [1, 100])
@pytest.mark.parametrize("name", graphs.ALL)
def test_checkpoints_of_every_graph_are_those_of_a_plain_run(name: str, segment_answers: int) -> None:
    async def plain() -> list[Any]:
        graph = graphs.ALL[name]().builder.compile(InMemorySaver())
        config: Any = {"configurable": {"thread_id": RUN}}
        return [one async for one in graph.astream(GIVEN, config, stream_mode="checkpoints")]

    run = DurableGraphRun(graphs.ALL[name](), GIVEN, segment_answers=segment_answers)
    run.finish()
    assert [(one.step, one.values, one.next) for one in run.runner.checkpoints(RUN)] == [
        (one["metadata"]["step"], one["values"], tuple(one["next"])) for one in asyncio.run(plain())
    ]
