"""Nodes have in an activity what they have in LangGraph: configuration, runtime, retries, timeouts, caches, errors."""

from __future__ import annotations

import asyncio
import operator
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.cache.memory import InMemoryCache
from langgraph.errors import GraphRecursionError, NodeError, NodeTimeoutError
from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from langgraph.types import CachePolicy, Command, RetryPolicy, Send
from langgraph_dapr import DaprWorkflowGraphRunner
from pydantic import BaseModel
from pydantic_ai_dapr import RunFailedError, current_operation

from tests.support import graphs
from tests.support.durable_graphs import RUN, DurableGraphRun

pytestmark = pytest.mark.unit
GIVEN: Any = {"number": 0, "log": ["given"]}


class OwnError(Exception):
    """An application's own error."""


def one(node: Any, schema: Any = graphs.State, **options: Any) -> Any:
    return StateGraph(schema).add_node("node", node, **options).add_edge(START, "node")


class Fails:
    """A node that fails so many times, then says what it knows."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times = error, times
        self.keys: list[str] = []

    def __call__(self, state: graphs.State) -> graphs.State:
        self.keys.append(current_operation().key)
        if len(self.keys) <= self.times:
            raise self.error
        return {"log": ["done"]}


@pytest.mark.parametrize("kept_runs", [0, 8])
def test_an_error_that_may_pass_is_tried_again_with_the_same_key(kept_runs: int) -> None:
    node = Fails(ConnectionError("lost"), 2)
    assert DurableGraphRun(one(node).compile(), GIVEN, kept_runs=kept_runs).finish()["log"] == ["given", "done"]
    assert node.keys == [f"{RUN}:1"] * 3


def test_an_error_that_will_not_pass_fails_the_run_with_its_cause() -> None:
    node = Fails(OwnError("broken"), 1)
    run = DurableGraphRun(one(node).compile(), GIVEN)
    with pytest.raises(OwnError, match="broken"):
        run.finish()
    with pytest.raises(RunFailedError, match="OwnError: broken"):
        run.runner.wait(RUN)
    assert len(node.keys) == 1


def policies(retry_on: Any) -> Any:
    return [
        RetryPolicy(retry_on=ZeroDivisionError, max_attempts=9),
        RetryPolicy(initial_interval=3.0, backoff_factor=2.0, max_attempts=3, jitter=False, retry_on=retry_on),
    ]


@pytest.mark.parametrize("retry_on", [OwnError, [OwnError, KeyError], lambda error: "broken" in str(error)])
def test_a_nodes_own_policy_says_what_is_tried_again_and_how_often(retry_on: Any) -> None:
    node = Fails(OwnError("broken"), 2)
    assert DurableGraphRun(one(node, retry_policy=policies(retry_on)).compile(), GIVEN).finish()["log"][-1] == "done"
    broken = Fails(OwnError("broken"), 3)
    with pytest.raises(OwnError):
        DurableGraphRun(one(broken, retry_policy=policies(retry_on)).compile(), GIVEN).finish()
    assert len(broken.keys) == 3
    other = Fails(ConnectionError("lost"), 1)
    with pytest.raises(ConnectionError):
        DurableGraphRun(one(other, retry_policy=policies(retry_on)).compile(), GIVEN).finish()
    assert len(other.keys) == 1


def test_a_policys_intervals_are_durable_timers() -> None:
    run = DurableGraphRun(one(Fails(OwnError("broken"), 2), retry_policy=policies(OwnError)).compile(), GIVEN)
    run.finish()
    assert run.engine is not None
    timers = [event.value.total_seconds() for event in run.engine.history if event.kind == "timer"]
    assert timers == [pytest.approx(3.0), pytest.approx(6.0)]


def test_a_policys_jitter_is_the_same_at_every_replay() -> None:
    policy = RetryPolicy(initial_interval=3.0, retry_on=OwnError)
    run = DurableGraphRun(one(Fails(OwnError("broken"), 1), retry_policy=policy).compile(), GIVEN, kept_runs=0)
    run.finish()
    assert run.engine is not None
    (timer,) = [event.value.total_seconds() for event in run.engine.history if event.kind == "timer"]
    assert 3.0 <= timer <= 4.0


def test_a_node_in_flight_runs_again_with_the_same_key() -> None:
    node = Fails(OwnError("unused"), 0)
    run = DurableGraphRun(one(node).compile(), GIVEN)
    run.turn()
    assert run.engine is not None
    number = next(iter(run.engine.wakeups))
    run.engine.serve(number, run.serve)
    run.engine.inbox.clear()  # its worker died before the answer was saved
    run.replace_worker()
    run.engine.fail_over()
    run.finish()
    assert node.keys == [f"{RUN}:1"] * 2


def test_a_sibling_of_a_failed_node_ends_with_the_run() -> None:
    graph = one(Fails(OwnError("broken"), 1)).add_node("beside", graphs.says("beside")).add_edge(START, "beside")
    with pytest.raises(OwnError):
        DurableGraphRun(graph.compile(), GIVEN).finish()


def test_an_error_handler_gets_the_error_as_its_own_type() -> None:
    def handles(state: graphs.State, error: NodeError) -> Command[Any]:
        return Command(update={"log": [f"{error.node}: {type(error.error).__name__} {error.error}"]})

    graph = one(Fails(OwnError("broken"), 9), error_handler=handles)
    assert DurableGraphRun(graph.compile(), GIVEN).finish()["log"] == ["given", "node: OwnError broken"]


def test_a_node_that_takes_too_long_fails_with_langgraphs_error() -> None:
    async def waits(state: graphs.State) -> graphs.State:
        await asyncio.Event().wait()
        return {}

    with pytest.raises(Exception, match="NodeTimeoutError") as raised:
        DurableGraphRun(one(waits, timeout=0.01).compile(), GIVEN).finish()
    assert not isinstance(raised.value, NodeTimeoutError)  # which can't be made from a message


def test_a_cached_node_is_not_called_again() -> None:
    calls: list[Any] = []

    def counts(state: graphs.State) -> graphs.State:
        calls.append(state)
        return {"log": ["counted"]}

    policy: Any = CachePolicy(key_func=lambda state: str(state["number"]))
    graph = one(counts, cache_policy=policy).compile(cache=InMemoryCache())
    for _ in range(2):
        assert DurableGraphRun(graph, GIVEN).finish()["log"] == ["given", "counted"]
    assert len(calls) == 1


@dataclass
class Context:
    user: str


def test_a_node_has_its_configuration_context_and_store() -> None:
    store = InMemoryStore()

    def asks(state: graphs.State, config: RunnableConfig, runtime: Runtime[Context]) -> graphs.State:
        assert runtime.store is not None
        runtime.store.put(("seen",), "user", {"name": runtime.context.user})
        configurable, metadata = config.get("configurable", {}), config.get("metadata", {})
        return {"log": [configurable["thread_id"], configurable["own"], metadata["team"], *config.get("tags", [])]}

    graph: Any = StateGraph(graphs.State, context_schema=Context).add_node("node", asks).add_edge(START, "node")
    config = {"configurable": {"own": "value"}, "metadata": {"team": "a"}, "tags": ["tagged"]}
    run = DurableGraphRun(graph.compile(store=store), GIVEN, config, Context("Ada"))
    assert run.finish()["log"] == ["given", RUN, "value", "a", "tagged"]
    found = store.get(("seen",), "user")
    assert found is not None
    assert found.value == {"name": "Ada"}


class Address(BaseModel):
    city: str


@dataclass
class Person:
    name: str
    born: date
    at: Address


class Rich(BaseModel):
    people: Annotated[list[Person], operator.add] = []
    messages: Annotated[list[AnyMessage], add_messages] = []
    pair: tuple[int, str] | None = None
    next_id: int = 0


def test_values_keep_their_types() -> None:
    def meets(state: Rich) -> dict[str, Any]:
        assert isinstance(state, Rich)
        ada = Person("Ada", date(1815, 12, 10), Address(city="London"))
        return {"people": [ada], "messages": [AIMessage("hello", id="2")], "pair": (1, "one")}

    def checks(state: Rich) -> Rich:
        assert (type(state.people[0].at), type(state.pair), type(state.messages[0])) == (Address, tuple, HumanMessage)
        return Rich(next_id=7)

    graph: Any = one(meets, Rich).add_node("checks", checks).add_edge("node", "checks").compile()
    given = {"messages": [HumanMessage("hi", id="1")]}
    run = DurableGraphRun(graph, given)
    assert run.finish() == asyncio.run(graph.ainvoke(given))


def test_what_a_send_carries_reaches_the_node_as_it_is() -> None:
    def takes(state: Any) -> dict[str, Any]:
        assert type(state) is dict
        return {"next_id": state["only"]}

    graph: Any = StateGraph(Rich).add_node("takes", takes)
    graph.add_conditional_edges(START, lambda state: [Send("takes", {"only": 5})], ["takes"])
    assert DurableGraphRun(graph.compile(), {}).finish() == asyncio.run(graph.compile().ainvoke({}))


def test_what_cannot_be_carried_is_refused_with_a_remedy() -> None:
    class Local(TypedDict, total=False):
        log: Any

    class Odd:
        pass

    with pytest.raises(TypeError, match="a Odd can't be carried between processes"):
        DurableGraphRun(one(lambda state: {}, Local).compile(), {"log": Odd()})
    with pytest.raises(TypeError, match="a Odd can't be carried between processes"):
        DurableGraphRun(one(lambda state: {"log": Odd()}, Local).compile(), {"log": 1}).finish()
    with pytest.raises(TypeError, match="a LocalModel can't be carried between processes: define the type at a"):
        DurableGraphRun(one(lambda state: {"log": _local_model()}, Local).compile(), {"log": 1}).finish()
    with pytest.raises(TypeError, match=r"\['callbacks'\] of a configuration can't be carried"):
        DurableGraphRun(graphs.sequential(), GIVEN, {"callbacks": []})


def _local_model() -> BaseModel:
    class LocalModel(BaseModel):
        x: int = 1

    return LocalModel()


def test_a_graph_that_cannot_be_durable_is_refused() -> None:
    with pytest.raises(TypeError, match=r"made with StateGraph\(…\)\.compile\(\), not StateGraph"):
        DaprWorkflowGraphRunner(StateGraph(graphs.State), name="graph")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pass name="):
        DaprWorkflowGraphRunner(graphs.sequential())
    with pytest.raises(ValueError, match="node node is a subgraph, whose nodes are activities"):
        DaprWorkflowGraphRunner(one(graphs.sequential(), retry_policy=RetryPolicy()).compile(), name="graph")

    @entrypoint()
    def function(given: Any) -> Any:
        return given

    with pytest.raises(TypeError, match=r"only graphs made with StateGraph can be nodes"):
        DaprWorkflowGraphRunner(one(function).compile(), name="graph")


def test_a_run_of_too_many_steps_fails() -> None:
    graph = one(graphs.says("again")).add_edge("node", "node").compile()
    with pytest.raises(GraphRecursionError):
        DurableGraphRun(graph, GIVEN, {"recursion_limit": 5}).finish()
