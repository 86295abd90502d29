"""A graph of slow nodes, in which two branches count side by side and a person is asked, and its worker process."""

from __future__ import annotations

import json
import operator
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from langgraph_dapr import DaprWorkflowGraphRunner
from pydantic_ai_dapr import Attempt, current_operation

NAME = "counting-graph"


class State(TypedDict, total=False):
    limit: int
    counted: Annotated[list[str], operator.add]
    answer: str


def build(step_seconds: float) -> Any:
    """Counts in `left` and `right` to `limit`, asks, and notes the answer."""

    def counts(side: str) -> Any:
        def count(state: State) -> State:
            time.sleep(step_seconds)
            number = sum(one.startswith(side) for one in state["counted"]) + 1
            return {"counted": [f"{side} {number}"]}

        return count

    def enough(state: State) -> list[str] | str:
        return "ask" if len(state["counted"]) >= 2 * state["limit"] else ["left", "right"]

    def ask(state: State) -> State:
        return {"answer": interrupt(f"counted {len(state['counted'])}, right?")}

    def note(state: State) -> State:
        if state["answer"] == "no":
            raise PermissionError("not yours to count")
        return {"counted": [f"noted as {current_operation().key}"]}

    graph = StateGraph(State).add_node("left", counts("left")).add_node("right", counts("right"))
    graph.add_node("join", lambda state: {}).add_node("ask", ask).add_node("note", note)
    graph.add_edge(START, "left").add_edge(START, "right").add_edge(["left", "right"], "join")
    graph.add_conditional_edges("join", enough, ["left", "right", "ask"])
    return graph.add_edge("ask", "note").add_edge("note", END).compile()


def runner(port: int, token: str, step_seconds: float, on_attempt: Any = None) -> DaprWorkflowGraphRunner:
    return DaprWorkflowGraphRunner(build(step_seconds), name=NAME, port=port, api_token=token, on_attempt=on_attempt)


def main(port: str, token: str, step_seconds: str, attempts: str) -> None:
    """A worker: writes every attempt down, until it is killed."""
    lock = threading.Lock()

    def write(attempt: Attempt) -> None:
        with lock, Path(attempts).open("a") as file:
            file.write(json.dumps(asdict(attempt)) + "\n")

    runner(int(port), token, float(step_seconds), write).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
