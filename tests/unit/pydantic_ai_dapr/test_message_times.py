"""Messages have the workflow's time: the same in whichever process the run goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart
from pydantic_ai_dapr.clock import RunClock

from tests.support.conformance import started
from tests.support.durable_agents import DurableRun
from tests.support.scenarios import SCENARIOS, Scenario
from tests.support.scenarios.scenario import durable, script
from tests.support.workflow_engine import BEGAN

pytestmark = pytest.mark.unit
AT = datetime(2026, 1, 1, tzinfo=UTC)


def times(messages: list[ModelMessage]) -> list[datetime | None]:
    return [
        time
        for message in messages
        if isinstance(message, ModelRequest)
        for time in (message.timestamp, *(getattr(part, "timestamp", None) for part in message.parts))
    ]


@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if one.raises is None and not one.plain][::6], ids=str)
def test_a_run_without_memory_gives_its_messages_the_same_times(scenario: Scenario) -> None:
    def stamped(kept_runs: int) -> list[datetime | None]:
        run = started(scenario, kept_runs=kept_runs)
        _, messages = run.finish()
        run.stop()
        return times(messages)

    found = stamped(0)
    assert found == stamped(8)
    assert all(time is None or time - BEGAN.replace(tzinfo=UTC) < timedelta(minutes=1) for time in found)


def test_what_was_stamped_elsewhere_keeps_its_time() -> None:
    clock = RunClock()
    before = ModelRequest.user_text_prompt("before")
    with clock.running(AT):
        during = ModelRequest.user_text_prompt("during")
        clock.set([during])
    after = ModelResponse(parts=[TextPart("after")])
    shown = times([before]), after.timestamp
    clock.set([before, during, after])
    assert (times([before]), after.timestamp) == shown
    assert times([during])[1] == AT


def test_a_message_that_is_not_the_last_times_any_more_is_given_its_time() -> None:
    clock = RunClock()
    first, last = ModelRequest.user_text_prompt("first"), ModelRequest.user_text_prompt("last")
    clock.set([first, last])
    with clock.running(AT):
        summary = ModelRequest.user_text_prompt("in short")
    clock.set([first, summary, last])
    assert times([summary])[1] == AT


def test_the_times_of_a_step_cost_the_same_however_long_the_run_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_up(steps: int) -> int:
        asked: list[datetime] = []
        monkeypatch.setattr(RunClock, "time", lambda self, shown: asked.append(shown) or shown)
        agent = durable(script(*[[("noop", {})]] * steps, ["done"]))
        agent.tool_plain(lambda: None, name="noop")
        run = DurableRun(agent, max_iterations=steps + 1)
        run.finish()
        run.stop()
        return len(asked)

    of_4, of_8, of_12 = looked_up(4), looked_up(8), looked_up(12)
    assert of_12 - of_8 == of_8 - of_4
