"""The spans of a run are those of one trace, wherever it is executed: nothing in them depends on the process."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from pydantic_ai import Agent, InstrumentationSettings
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai_dapr import ChildAgent, ChildAgents, DaprDurability, DaprWorkflowAgentRunner, RunInput
from pydantic_ai_dapr.host import OperationHost
from pydantic_ai_dapr.tracing import RunTracer, carried, continued, remark
from pydantic_ai_dapr.types import Operation

from tests.support.durable_agents import DurableRun
from tests.support.scenarios.scenario import durable, script
from tests.support.spans import TRACER, Recorder, recorded, trees

pytestmark = pytest.mark.unit


@pytest.fixture
def recorder() -> Generator[Recorder]:
    with recorded() as recorder:
        yield recorder


def asking(**options: Any) -> Agent[Any, Any]:
    agent = durable(script([("say", {})], ["done"]), **options)

    @agent.tool_plain
    def say() -> str:
        trace.get_current_span().set_attribute("said", True)
        trace.get_current_span().record_exception(ValueError("not so loud"))
        trace.get_current_span().update_name("say hi")
        return "hi"

    return agent


def spans_of(run: DurableRun, recorder: Recorder) -> dict[str, ReadableSpan]:
    run.finish()
    run.stop()
    return {span.name: span for span in recorder.take()}


def test_a_run_belongs_to_the_trace_of_whoever_asked_for_it(recorder: Recorder) -> None:
    with TRACER.start_as_current_span("caller") as caller:
        asked = carried()
    spans = spans_of(DurableRun(asking(), arguments={"trace": asked}), recorder)
    parent = spans["invoke_agent agent"].parent
    assert parent is not None
    assert parent.span_id == caller.get_span_context().span_id
    assert {span.context.trace_id for span in spans.values()} == {caller.get_span_context().trace_id}


def test_scheduling_carries_the_callers_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = DaprWorkflowAgentRunner(asking(), port=1)
    started: list[RunInput] = []
    monkeypatch.setattr(runner.client, "start_new", lambda run_id, run_input, timeout: started.append(run_input))
    runner.schedule("go")
    with TRACER.start_as_current_span("caller") as caller:
        runner.schedule("go")
    assert started[0].trace == {}
    assert f"{caller.get_span_context().trace_id:032x}" in started[1].trace["traceparent"]


def test_another_process_gives_the_same_spans_the_same_identifiers_and_beginnings(recorder: Recorder) -> None:
    def drawn(kept_runs: int) -> set[tuple[str, int, int | None]]:
        spans = spans_of(DurableRun(asking(), kept_runs=kept_runs), recorder)
        return {(name, span.context.span_id, span.start_time) for name, span in spans.items()}

    assert drawn(kept_runs=0) == drawn(kept_runs=8)


def test_what_a_tool_says_about_its_span_is_said_there(recorder: Recorder) -> None:
    spans = spans_of(DurableRun(asking()), recorder)
    said = spans["say hi"]
    assert said.attributes is not None
    assert said.attributes["said"] is True
    assert said.events[0].attributes == {"exception.type": "ValueError", "exception.message": "not so loud"}


def test_a_childs_run_is_below_the_call_that_asks_for_it(recorder: Recorder) -> None:
    child = DaprWorkflowAgentRunner(Agent(script(["42"]), name="inner"), port=1)
    team = ChildAgents([ChildAgent(child, "Knows.")])
    run = DurableRun(durable(script([("inner", {"prompt": "?"})], ["done"]), toolsets=[team]))
    run.engine.turn()
    run.engine.serve(1, run.serve)
    run.engine.turn()
    asked = run.engine.history[-1].value
    run.stop()
    run.runner.kept.clear()
    chat = recorder.take()[0]
    assert f"{chat.context.trace_id:032x}" in asked["trace"]["traceparent"]


def test_the_agents_own_instrumentation_is_used(recorder: Recorder) -> None:
    Agent.instrument_all(False)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(recorder)
    settings = InstrumentationSettings(tracer_provider=provider, include_content=False)
    agent = asking(capabilities=[Instrumentation(settings)])
    tracer = settings.tracer
    first = spans_of(DurableRun(agent), recorder)
    assert {"invoke_agent agent", "chat function:answer:", "say hi"} <= first.keys()
    assert "final_result" not in (first["invoke_agent agent"].attributes or {})
    assert settings.tracer is tracer
    agent.run_sync("go")
    assert {span.context.trace_id for span in recorder.take()} != {first["say hi"].context.trace_id}


def test_an_agent_that_got_its_durability_from_the_runner_is_traced(recorder: Recorder) -> None:
    agent = Agent(script(["done"]), name="agent")
    assert DaprDurability.from_agent(agent) is None
    run = DurableRun(agent)
    run.finish()
    run.stop()
    assert [tree.name for tree in trees(recorder.take())] == ["invoke_agent agent"]


def test_nothing_is_carried_where_nothing_is_traced() -> None:
    assert carried() == {}
    run = DurableRun(asking())
    run.finish()
    run.stop()
    scheduled = [event.value for event in run.engine.history if event.kind == "scheduled"]
    assert not any("trace" in value for value in scheduled)


def test_an_operation_is_executed_in_its_trace() -> None:
    host = OperationHost()
    with TRACER.start_as_current_span("caller") as caller:
        asked = carried()

    async def body() -> object:
        span = trace.get_current_span()
        span.set_status(trace.StatusCode.ERROR)
        span.end()
        span.add_event("seen")
        return span.get_span_context().span_id

    answer = host.execute(Operation("r", "r", 1, "tool", "t", 1), body, asked)
    host.stop()
    assert answer == {"ok": caller.get_span_context().span_id, "span": {"events": [["seen", {}]]}}


def test_a_span_that_is_not_sampled_is_told_nothing() -> None:
    with continued({"traceparent": f"00-{1:032x}-{1:016x}-00"}):
        assert not trace.get_current_span().is_recording()
    remark({})


def test_tracers_that_draw_no_identifiers_are_used_as_they_are() -> None:
    run = DurableRun(asking())
    run.engine.turn()
    live = run.runner.kept.take("run-1")
    assert live is not None

    class Proxy:
        """As Logfire's: another tracer is behind it."""

        def __init__(self, tracer: trace.Tracer) -> None:
            self.tracer = tracer

        def start_span(self, *args: Any, **options: Any) -> trace.Span:
            return self.tracer.start_span(*args, **options)

    with RunTracer(trace.NoOpTracer(), live).start_as_current_span("nothing") as span:
        assert not span.is_recording()
    behind: Any = Proxy(TRACER)
    drawn = [RunTracer(behind, live).start_span("a").get_span_context() for _ in range(2)]
    assert drawn[0].trace_id != drawn[1].trace_id
    assert behind.tracer is TRACER
    live.unwind()
    run.stop()
