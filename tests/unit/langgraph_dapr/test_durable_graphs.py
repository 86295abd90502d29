"""A durable graph ends as the plain one does, whatever happens to its worker, and runs no completed node again."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.support import graphs
from tests.support.durable_graphs import DurableGraphRun

pytestmark = pytest.mark.unit
GIVEN: Any = {"number": 0, "log": ["given"]}
every_graph = pytest.mark.parametrize("name", graphs.ALL)


def plain(graph: graphs.Graph, given: Any = GIVEN, config: Any = None) -> Any:
    return asyncio.run(graph.ainvoke(given, config))


@every_graph
@pytest.mark.parametrize("kept_runs", [0, 8])
def test_a_durable_run_equals_a_plain_one(name: str, kept_runs: int) -> None:
    graph = graphs.ALL[name]()
    assert DurableGraphRun(graph, GIVEN, kept_runs=kept_runs).finish() == plain(graph)


@every_graph
def test_a_run_whose_history_is_cut_everywhere_equals_a_plain_one(name: str) -> None:
    graph = graphs.ALL[name]()
    run = DurableGraphRun(graph, GIVEN, segment_answers=1, inline_bytes=10)
    assert run.finish() == plain(graph)
    assert run.engine is not None
    assert run.engine.executions > 1 or name == "called_subgraph"


@every_graph
@pytest.mark.parametrize("lost", ["worker", "wake-ups too"])
def test_a_fault_at_every_boundary_changes_nothing_and_repeats_nothing_that_completed(name: str, lost: str) -> None:
    graph = graphs.ALL[name]()
    unharmed = DurableGraphRun(graph, GIVEN)
    expected = unharmed.finish()
    for boundary in range(1, len(unharmed.executed()) + 1):
        run = DurableGraphRun(graph, GIVEN)
        run.turn()
        engine = run.engine
        assert engine is not None
        while not engine.ended:
            if len(run.executed()) < boundary:
                engine.serve(next(iter(engine.wakeups)), run.serve)
                run.turn()
                continue
            run.replace_worker()
            if lost != "worker":
                engine.fail_over("token")
            break
        assert run.finish() == expected
        assert Counter(run.executed()) == Counter(unharmed.executed())
