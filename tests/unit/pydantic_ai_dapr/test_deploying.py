"""A run that is under way goes on as it began, and a new one as the new code says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic_ai_dapr import patched
from pydantic_ai_dapr.driver import KeptRuns, drive
from pydantic_ai_dapr.journal import Journal
from pydantic_ai_dapr.payloads import Payloads
from pydantic_ai_dapr.run import current_run

from tests.support.durable_agents import Values
from tests.support.workflow_engine import Engine

pytestmark = pytest.mark.unit


async def operate(name: str) -> str:
    run = current_run.get()
    assert run is not None
    return await run.call(name, lambda: {"name": name})


async def old_code() -> list[str]:
    return [await operate("a"), await operate("b"), await operate("c")]


async def new_code() -> list[str]:
    first = [await operate("a")]
    if patched("more-b"):
        first.append(await operate("more b"))
    rest = [await operate("b"), await operate("c")]
    if patched("more-b"):
        first.append("patched")
    if patched("the-end"):
        rest.append(await operate("end"))
    return first + rest


def workflow(code: Any, kept: int, journal: Journal, segment_answers: int) -> Callable[..., Any]:
    table = KeptRuns(kept)
    return lambda ctx, start: drive(ctx, code, table, start=start, journal=journal, segment_answers=segment_answers)


def handler(name: str, value: Any) -> str:
    return name


@pytest.fixture
def journal() -> Journal:
    return Journal(Payloads(Values()), lambda instance_id: [])


@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize("segment_answers", [1, 100])
def test_a_new_run_takes_the_new_way_on_every_worker(kept: int, segment_answers: int, journal: Journal) -> None:
    engine = Engine(workflow(new_code, kept, journal, segment_answers), input={"run": "…"})
    assert engine.run(handler) == ["a", "more b", "patched", "b", "c", "end"]


@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize("segment_answers", [1, 100])
def test_a_run_that_had_come_by_goes_on_in_the_old_way(kept: int, segment_answers: int, journal: Journal) -> None:
    engine = Engine(workflow(old_code, kept, journal, 100), input={"run": "…"})
    engine.turn()
    engine.serve(next(iter(engine.wakeups)), handler)
    engine.turn()
    engine.workflow = workflow(new_code, kept, journal, segment_answers)
    assert engine.run_on(handler) == ["a", "b", "c", "end"]


def test_outside_a_durable_run_the_new_way_is_taken() -> None:
    assert patched("anything")
