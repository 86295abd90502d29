"""Every feature of an agent's run gives the same output, messages, usage, errors and spans when the run is durable.

Each scenario is run as a plain agent, durably, durably without memory (every work item replays all of it), with a
history that is cut after each answer, and with its worker and its wake-ups lost at every turn. The history of each
replays as the same. How it ends when its process dies is in `test_crash_points`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic_ai_dapr import DaprWorkflowAgentRunner, Export

from tests.support.conformance import brought_to_its_end, outcome, plain, started
from tests.support.durable_agents import DurableRun
from tests.support.recorded_runs import recorded
from tests.support.scenarios import SCENARIOS, Scenario

pytestmark = pytest.mark.unit


def lost_at_every_turn(scenario: Scenario) -> DurableRun:
    run = started(scenario)
    run.engine.turn()
    while not run.engine.ended:
        run.replace_worker()
        run.engine.fail_over()
        run.engine.turn()
        run.replace_worker()
        for number in list(run.engine.wakeups):
            run.engine.serve(number, run.serve)
        run.engine.turn()
    return run


WAYS: dict[str, Callable[[Scenario], DurableRun]] = {
    "kept": started,
    "replayed": lambda scenario: started(scenario, kept_runs=0),
    "cut": lambda scenario: started(scenario, kept_runs=0, segment_answers=1),
    "lost": lost_at_every_turn,
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_a_scenario_is_what_it_says(scenario: Scenario) -> None:
    found = plain(scenario)
    assert found.spans
    assert (found.error[0] if found.error else None) == scenario.raises


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_a_durable_run_gives_what_a_plain_one_gives(scenario: Scenario, way: str) -> None:
    runs: list[DurableRun] = []

    def run() -> object:
        runs.append(WAYS[way](scenario))
        return brought_to_its_end(runs[0])

    assert outcome(run) == plain(scenario)
    completed = [attempt.key for attempt in runs[0].attempts if attempt.outcome == "ok"] if runs else []
    assert len(completed) == len(set(completed))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_the_history_of_a_durable_run_replays_as_the_same(scenario: Scenario) -> None:
    run = started(scenario)
    engine = recorded(run)
    engine.run(run.serve)
    run.stop()
    through_file = Export.model_validate_json(engine.export().model_dump_json())
    report = DaprWorkflowAgentRunner(scenario.make(), name="agent", port=1).replay(through_file)
    assert report.same, str(report.difference)
    assert report.actions > 0
