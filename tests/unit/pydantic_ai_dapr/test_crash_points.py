"""Whenever its process dies, a run ends as a plain one: with the same output, messages, usage, error and spans.

Every scenario is killed at each point of the one list, at every boundary that its run comes to: an operation, a turn or
a cut. By default one run dies at all of a point's boundaries, one after the other, each time in another process. With
`CRASHES=each` there is a run for each boundary, which dies there alone.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

import pytest

from infra.state import project_root
from tests.support.conformance import brought_to_its_end, outcome, plain
from tests.support.crash_points import CUTS, CrashingRun, Point, processes
from tests.support.scenarios import SCENARIOS, Scenario

pytestmark = pytest.mark.unit
ALONE = os.environ.get("CRASHES") == "each"


@pytest.fixture(scope="module", autouse=True)
def _processes_are_let_go() -> Iterator[None]:
    yield
    undisturbed.cache_clear()
    processes.cache_clear()


@cache
def undisturbed(scenario: Scenario, point: Point) -> CrashingRun:
    run = CrashingRun(scenario, point, number=0)
    outcome(lambda: brought_to_its_end(run))
    return run


@pytest.mark.parametrize("point", Point, ids=lambda point: point.name.lower())
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_a_run_that_is_killed_ends_as_a_plain_one(scenario: Scenario, point: Point) -> None:
    whole = undisturbed(scenario, Point.BODY)
    boundaries = range(1, len(undisturbed(scenario, point).passed) + 1) if ALONE else [None]
    for number in boundaries:
        run = CrashingRun(scenario, point, number)
        assert outcome(lambda run=run: brought_to_its_end(run)) == plain(scenario)
        assert run.repeated == [], "what was answered was executed again"
        assert run.executions() == whole.executions(), "what was in flight came again as something else"
        assert run.passed or point in CUTS or not whole.executions()


def test_every_point_is_reached() -> None:
    scenario = next(one for one in SCENARIOS if str(one) == "sequential_and_parallel_tools")
    reached = {point for point in Point if undisturbed(scenario, point).passed}
    assert reached == set(Point)


def test_the_page_has_every_scenario_and_point() -> None:
    page = (project_root() / "docs" / "conformance.md").read_text()
    counts = [int(row) for row in re.findall(r"^\|[^|]+\| (\d+) \|(?: \d+ \|){5} \d+ × \d+ \|$", page, re.MULTILINE)]
    assert sorted(counts) == sorted([*Counter(one.feature for one in SCENARIOS).values(), len(SCENARIOS)])
    assert re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.MULTILINE) == [(one.name, one.value) for one in Point]
