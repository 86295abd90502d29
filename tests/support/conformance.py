"""What a run came to, in all that is compared between the ways in which a scenario is run."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic_core import to_jsonable_python

from tests.support.durable_agents import DurableRun, comparable
from tests.support.scenarios import Scenario
from tests.support.spans import Tree, recorded, trees


@dataclass(frozen=True)
class Outcome:
    """Output, messages and usage of a run that completed, the error of one that failed, and the spans of either."""

    output: Any = None
    messages: Any = None
    usage: Any = None
    error: tuple[str, str] | None = None
    spans: list[Tree] = field(default_factory=list)


def outcome(run: Callable[[], tuple[Any, Any, Any]]) -> Outcome:
    """What comes of a run that gives its output, messages and usage."""
    output = messages = usage = error = None
    with recorded() as recorder:
        try:
            output, messages, usage = run()
        except Exception as raised:
            error = (type(raised).__name__, str(raised))
        return Outcome(output, messages and comparable(messages), _usage(usage), error, trees(recorder.take()))


@cache
def plain(scenario: Scenario) -> Outcome:
    """What comes of the scenario's agent where nothing makes it durable."""

    def run() -> tuple[Any, Any, Any]:
        result = scenario.make().run_sync(scenario.prompt, deps=scenario.deps, **deepcopy(scenario.plain))
        return result.output, result.all_messages(), result.usage

    return outcome(run)


def started(scenario: Scenario, **options: Any) -> DurableRun:
    """A durable run of the scenario that has yet to do anything."""
    prompt = to_jsonable_python(scenario.prompt)
    return DurableRun(scenario.make(), prompt=prompt, deps=scenario.deps, arguments=scenario.wire, **options)


def brought_to_its_end(run: DurableRun) -> tuple[Any, Any, Any]:
    """Output, messages and usage of a durable run."""
    try:
        output, messages = run.finish()
        return output, messages, run.engine.result["usage"]
    finally:
        run.stop()


def _usage(usage: Any) -> Any:
    return {key: value for key, value in (to_jsonable_python(usage) or {}).items() if value}
