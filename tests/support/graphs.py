"""Graphs of every shape that LangGraph offers, each deterministic, so that two runs of one can be compared."""

from __future__ import annotations

import operator
from typing import Annotated, Any, Literal, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Send, interrupt

Graph = CompiledStateGraph[Any, Any, Any, Any]


class State(TypedDict, total=False):
    number: int
    log: Annotated[list[str], operator.add]


def says(name: str) -> Any:
    """A node that adds one, and its name to the log."""

    def node(state: State) -> State:
        return {"number": state.get("number", 0) + 1, "log": [name]}

    return node


def logs(name: str) -> Any:
    """An asynchronous node that adds its name and the length of what it saw to the log."""

    async def node(state: State) -> State:
        return {"log": [f"{name}{len(state['log'])}"]}

    return node


def sequential() -> Graph:
    graph = StateGraph(State)
    graph.add_sequence([(name, says(name)) for name in ("first", "second", "third")])
    return graph.add_edge(START, "first").compile()


def fan_out() -> Graph:
    graph = StateGraph(State).add_node("split", says("split")).add_node("join", logs("join"))
    for name in ("left", "middle", "right"):
        graph.add_node(name, logs(name)).add_edge("split", name)
    graph.add_edge(["left", "middle", "right"], "join")
    return graph.add_edge(START, "split").compile()


def conditional() -> Graph:
    async def more(state: State) -> list[str]:
        return ["odd", "log"] if state["number"] % 2 else ["even"]

    def enough(state: State) -> Literal["count", "__end__"]:
        return "count" if state["number"] < 5 else END

    graph = StateGraph(State).add_node("count", says("count"))
    for name in ("odd", "even", "log"):
        graph.add_node(name, logs(name))
        graph.add_conditional_edges(name, enough)
    graph.add_conditional_edges("count", more, ["odd", "even", "log"])
    return graph.add_edge(START, "count").compile()


def map_reduce() -> Graph:
    def each(state: State) -> list[Send]:
        return [Send("square", {"number": number}) for number in range(state["number"] + 3)]

    def square(state: State) -> State:
        return {"log": [f"square {state.get('number', 0) ** 2}"]}

    graph = StateGraph(State).add_node("start", says("start")).add_node("square", square).add_node("sum", logs("sum"))
    graph.add_conditional_edges("start", each, ["square"])
    return graph.add_edge(START, "start").add_edge("square", "sum").compile()


def commands() -> Graph:
    def route(state: State) -> Command[Literal["low", "high", "each"]]:
        goto: Any = "low" if state.get("number", 0) < 2 else ["high", Send("each", {"number": 9})]
        return Command(update={"number": state.get("number", 0) + 1, "log": ["route"]}, goto=goto)

    graph = StateGraph(State).add_node("route", route).add_node("low", logs("low")).add_node("high", logs("high"))
    graph.add_node("each", lambda state: {"log": [f"each {state['number']}"]})
    return graph.add_edge(START, "route").add_edge("low", "route").compile()


def subgraphs() -> Graph:
    def leave(state: State) -> Command[Any]:
        return Command(graph=Command.PARENT, update={"log": ["left"]}, goto="after")

    innermost = StateGraph(State).add_node("deep", says("deep")).add_edge(START, "deep").compile()
    inner = StateGraph(State).add_node("one", says("one")).add_node("innermost", innermost)
    inner.add_edge(START, "one").add_edge("one", "innermost")
    leaving = StateGraph(State).add_node("leave", leave).add_edge(START, "leave")
    outer = StateGraph(State).add_node("inner", inner.compile()).add_node("beside", logs("beside"))
    outer.add_node("leaving", leaving.compile(), destinations=("after",)).add_node("after", logs("after"))
    outer.add_edge(START, "inner").add_edge(START, "beside").add_edge("inner", "leaving")
    return outer.compile()


def called_subgraph_that_leaves() -> Graph:
    def leave(state: State) -> Command[Any]:
        return Command(graph=Command.PARENT, update={"log": ["left"]}, goto="after")

    inner = StateGraph(State).add_node("leave", leave).add_edge(START, "leave").compile()

    def calls(state: State) -> State:
        return inner.invoke(state)  # type: ignore[return-value]

    graph = StateGraph(State).add_node("calls", calls, destinations=("after",)).add_node("after", logs("after"))
    return graph.add_edge(START, "calls").compile()


def called_subgraph() -> Graph:
    inner = StateGraph(State).add_node("one", says("one")).add_edge(START, "one").compile()

    def calls(state: State) -> State:
        return {"log": [f"inner {inner.invoke({'number': 4})['number']}"]}

    return StateGraph(State).add_node("calls", calls).add_edge(START, "calls").compile()


ALL = {
    made.__name__: made
    for made in (
        sequential,
        fan_out,
        conditional,
        map_reduce,
        commands,
        subgraphs,
        called_subgraph,
        called_subgraph_that_leaves,
    )
}


def asking(checkpointer: Any = None) -> Graph:
    """`ask` asks twice, beside `other`."""

    def ask(state: State) -> State:
        name = interrupt("your name?")
        age = interrupt({"ask": "your age?", "name": name})
        return {"log": [f"{name} is {age}"]}

    graph = StateGraph(State).add_node("first", says("first")).add_node("ask", ask).add_node("other", says("other"))
    graph.add_node("last", logs("last")).add_edge(["ask", "other"], "last")
    return graph.add_edge(START, "first").add_edge("first", "ask").add_edge("first", "other").compile(checkpointer)
