"""Runs that are long, large, or wait for people, on a real sidecar at its default limits."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic_ai import Agent, FunctionToolset, RunContext
from pydantic_ai.capabilities import HandleDeferredToolCalls
from pydantic_ai.external_events import ExternalEventError, wait_for_external_event
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai_dapr import (
    AgentRunClient,
    Attempt,
    DaprDurability,
    DaprWorkflowAgentRunner,
    PayloadTooLargeError,
    RunFailedError,
    RunInput,
    WaitForApproval,
    WorkflowUnavailableError,
    current_operation,
    durable_sleep,
    durable_step,
    start_together,
    steps,
)
from pydantic_ai_dapr.client import operations_of

from tests.component.dapr_stack import API_TOKEN, DaprStack, dapr_stack, read_lines, until
from tests.component.pydantic_ai_dapr import counting_agent

pytestmark = pytest.mark.component


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[DaprStack]:
    with dapr_stack(tmp_path) as made:
        yield made


def calling(tool: str, times: int, **arguments: Any) -> FunctionModel:
    """A model that calls a tool so many times, then says what the last call returned."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        made = sum(isinstance(message, ModelResponse) for message in messages)
        if made < times:
            return ModelResponse(parts=[ToolCallPart(tool, arguments, tool_call_id=f"call-{made}")])
        returned = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
        return ModelResponse(parts=[TextPart(f"{len(returned)} calls, the last: {str(returned[-1].content)[:40]}")])

    return FunctionModel(answer)


@contextmanager
def hosted(agent: Agent[Any, Any], stack: DaprStack, **options: Any) -> Iterator[DaprWorkflowAgentRunner[Any, Any]]:
    port = stack.sidecars[-1].grpc_port
    runner = DaprWorkflowAgentRunner(agent, port=port, api_token=API_TOKEN, max_iterations=1000, **options)
    runner.start()
    try:
        yield runner
    finally:
        runner.shutdown()


def counting(steps: int) -> Agent[Any, Any]:
    agent = Agent(calling("count", steps), name="long")

    @agent.tool_plain
    async def count() -> str:
        return "counted"

    return agent


def test_a_long_run_goes_on_in_segments_and_in_another_worker(stack: DaprStack) -> None:
    attempts: list[Attempt] = []
    with hosted(counting(40), stack, on_attempt=attempts.append, segment_answers=12) as first:
        handle = first.schedule("go")
        until("half of the run", lambda: len(attempts) > 80)
    with hosted(counting(40), stack, on_attempt=attempts.append, segment_answers=12) as second:
        result = second.wait(handle.run_id)
        assert result.output == "40 calls, the last: counted"
        assert len(second.client.hub.history(handle.run_id, 5)) < 60
        events = list(second.handle(handle.run_id).events())
        assert Counter(event.type for event in events) == Counter(
            operation_started=81, operation_completed=81, run_completed=1
        )
        assert [event.ordinal for event in events if event.type == "operation_completed"] == list(range(1, 82))
        ended = Counter(attempt.ordinal for attempt in attempts if attempt.outcome == "ok")
        assert sum(count - 1 for count in ended.values()) <= 1  # the one that was in hand when the worker stopped
        second.purge_workflow(handle.run_id)
        assert second.status(handle.run_id) is None


LONG, PATIENT = 1000, 600.0
MIB = 1024 * 1024


def test_a_run_of_a_thousand_steps_ends_with_a_short_history_and_little_memory(
    stack: DaprStack, tmp_path: Path
) -> None:
    attempts, port = tmp_path / "attempts.jsonl", stack.sidecars[0].grpc_port
    command = [sys.executable, "-m", counting_agent.__name__, str(port), API_TOKEN, "0", str(attempts), str(LONG)]
    worker = psutil.Process(stack.spawn("worker", command, PYTHONPATH=str(Path(__file__).parents[3])).pid)
    asks = AgentRunClient(counting_agent.NAME, port=port, api_token=API_TOKEN)
    go = RunInput(run_id="run-1", prompt="count")
    until("a worker", lambda: _does(lambda: asks.start("run-1", go, timeout=1.0)), seconds=60)
    until("its hundredth step", lambda: len(read_lines(attempts)) > 4 * 100, seconds=PATIENT, every=1.0)
    begun, resident, history = worker.memory_info().rss, [0], [0]

    def ended() -> bool:
        try:
            status = asks.status("run-1", payloads=False)
            history.append(sum(map(len, asks.hub.recorded("run-1", 5))))
        except WorkflowUnavailableError:
            return False
        resident.append(worker.memory_info().rss)
        return status is not None and status.is_terminal

    until("the end of the run", ended, seconds=PATIENT, every=1.0)
    status = asks.status("run-1")
    assert status is not None
    assert isinstance(status.output, dict)
    assert status.output["output"] == f"counted to {LONG}"
    assert max(history) < MIB
    assert max(resident) - begun < 100 * MIB
    executed = Counter(line["key"] for line in read_lines(attempts) if line["phase"] == "ended")
    assert executed == {f"run-1:{number}": 1 for number in range(1, 2 * LONG + 2)}
    assert [one.ordinal for one in steps(asks.history("run-1"))] == list(range(1, 2 * LONG + 2))
    asks.close()


def test_payloads_larger_than_the_message_limit_are_kept_beside_the_history(stack: DaprStack) -> None:
    agent = Agent(calling("fetch", 1), name="large")

    @agent.tool_plain
    def fetch() -> str:
        return "x" * 6_000_000

    with hosted(agent, stack) as runner:
        result = runner.run_sync("y" * 5_000_000)
        assert result.output == "1 calls, the last: " + "x" * 40
        assert len(str(result.messages[0].parts[0].content)) == 5_000_000
        raw = runner.client.hub.history(result.run_id, 5)
        assert sum(len(event.model_dump_json()) for event in raw) < 50_000
        whole = runner.client.history(result.run_id)
        assert sum(len(event.model_dump_json()) for event in whole) > 11_000_000


def test_what_is_too_large_to_be_kept_is_refused_by_name(stack: DaprStack) -> None:
    agent = Agent(calling("fetch", 1), name="huge")

    @agent.tool_plain
    def fetch() -> str:
        return "x" * 70_000_000

    with hosted(agent, stack) as runner:
        with pytest.raises(PayloadTooLargeError, match="keep such data in a store of your own"):
            runner.schedule("y" * 70_000_000)
        with pytest.raises(RunFailedError, match="PayloadTooLargeError"):
            runner.run_sync("go")


def refunding(**options: Any) -> Agent[Any, Any]:
    agent = Agent(calling("refund", 1, amount=5), name="desk", **options)

    @agent.tool_plain(requires_approval=True)
    def refund(amount: int) -> str:
        return f"refunded {amount}"

    return agent


@pytest.mark.parametrize(
    ("decide", "output"),
    [
        (lambda client, run: client.approve(run, "call-0"), "1 calls, the last: refunded 5"),
        (
            lambda client, run: client.approve(run, "call-0", override_args={"amount": 3}),
            "1 calls, the last: refunded 3",
        ),
        (
            lambda client, run: client.approve(run, "call-0", approved=False, message="too much"),
            "1 calls, the last: too much",
        ),
    ],
)
def test_an_approval_is_awaited_across_a_lost_worker_and_lost_wake_ups(
    stack: DaprStack, decide: Callable[[Any, str], None], output: str
) -> None:
    with hosted(refunding(capabilities=[WaitForApproval()]), stack) as runner:
        run_id = runner.schedule("go").run_id
        until("the question", lambda: _events(runner, run_id)["operation_completed"] == 1)
    stack.end("daprd-0")
    stack.wipe_scheduler()
    stack.start_sidecar()
    with hosted(refunding(capabilities=[WaitForApproval()]), stack) as runner:
        until("a sidecar that knows the run", lambda: _does(lambda: decide(runner.client, run_id)))
        assert runner.wait(run_id).output == output


def test_a_decision_that_nobody_takes_is_a_denial(stack: DaprStack) -> None:
    with hosted(refunding(capabilities=[WaitForApproval(timeout=timedelta(seconds=1))]), stack) as runner:
        assert runner.run_sync("go").output == "1 calls, the last: nobody decided within 0:00:01"


def asking(told: list[str], timeout: timedelta | None = None) -> Agent[Any, Any]:
    async def decide(ctx: Any, requests: Any) -> Any:
        try:
            answer = await wait_for_external_event("refund", ask=told.append, timeout=timeout)
        except ExternalEventError as error:
            answer = str(error)
        return requests.build_results(approvals={call.tool_call_id: answer == "yes" for call in requests.approvals})

    return refunding(capabilities=[HandleDeferredToolCalls(handler=decide)])


@pytest.mark.parametrize(("answer", "refunds"), [("yes", True), ("no", False)])
def test_an_external_event_is_asked_for_once_and_answered_by_its_token(
    stack: DaprStack, answer: str, refunds: bool
) -> None:
    tokens: list[str] = []
    with hosted(asking(tokens), stack, kept_runs=0) as runner:
        handle = runner.schedule("go")
        until("the question", lambda: tokens)
        runner.client.resolve(tokens[0], answer)
        assert ("refunded 5" in handle.result().output) is refunds
        assert len(tokens) == 1
        with pytest.raises(ValueError, match="not the token of a run"):
            runner.client.resolve("nonsense", answer)


def test_an_answer_that_will_not_come_can_be_told(stack: DaprStack) -> None:
    tokens: list[str] = []
    with hosted(asking(tokens), stack) as runner:
        handle = runner.schedule("go")
        until("the question", lambda: tokens)
        runner.client.fail(tokens[0], "the shop is closed")
        assert "refunded" not in handle.result().output


def test_an_external_event_that_never_comes_runs_out(stack: DaprStack) -> None:
    with hosted(asking([], timedelta(seconds=1)), stack) as runner:
        assert "refunded" not in runner.run_sync("go").output


def test_a_cancelled_runs_tool_is_stopped(stack: DaprStack) -> None:
    entered, stopped = threading.Event(), threading.Event()
    agent = Agent(calling("hang", 1), name="hanging")

    @agent.tool_plain
    async def hang() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.set()
            raise

    with hosted(agent, stack) as runner:
        handle = runner.schedule("go")
        assert entered.wait(20)
        handle.cancel()
        assert stopped.wait(20)
        with pytest.raises(RunFailedError, match="terminated"):
            handle.result()


def test_a_tool_sleeps_across_a_lost_worker_and_lost_wake_ups_and_a_cancelled_run_waits_for_none(
    stack: DaprStack,
) -> None:
    told, delays = list[str](), [timedelta(seconds=3)]
    agent = Agent(calling("remind", 1), name="nurse")

    @agent.tool_plain
    async def remind() -> str:
        async def tell() -> str:
            told.append(current_operation().key)
            return "told"

        await durable_step("first", tell)
        await durable_sleep(delays[0])
        return await durable_step("second", tell)

    with hosted(agent, stack) as runner:
        began = runner.schedule("go", run_id="ward-1").run_id
        until("its sleep", lambda: _events(runner, began)["operation_asleep"] == 1)
    stack.end("daprd-0")
    stack.wipe_scheduler()
    stack.start_sidecar()
    with hosted(agent, stack) as runner:
        until("a sidecar that knows the run", lambda: _does(lambda: runner.client.recover(began)))
        assert runner.wait(began).output == "1 calls, the last: told"
        assert told == ["ward-1:2", "ward-1:2"]
        assert runner.replay(runner.client.export(began)).same
        delays[0] = timedelta(days=1)
        handle = runner.schedule("go")
        until("its sleep", lambda: _events(runner, handle.run_id)["operation_asleep"] == 1)
        handle.cancel()
        with pytest.raises(RunFailedError, match="terminated"):
            handle.result(10)


def test_a_worker_that_leaves_does_not_wait_for_what_it_executes(stack: DaprStack) -> None:
    entered, patience = threading.Event(), [3600.0]
    agent = Agent(calling("dawdle", 1), name="slow")

    @agent.tool_plain
    async def dawdle() -> str:
        entered.set()
        await asyncio.sleep(patience[0])
        return "at last"

    with hosted(agent, stack) as runner:
        run_id = runner.schedule("go").run_id
        assert entered.wait(20)
    patience[0] = 0.0
    with hosted(agent, stack) as runner:
        assert runner.wait(run_id).output == "1 calls, the last: at last"


def test_agents_of_one_process_start_together(stack: DaprStack) -> None:
    port = stack.sidecars[0].grpc_port
    agents = [Agent(FunctionModel(_says(name)), name=name) for name in ("one", "two")]
    runners = [DaprWorkflowAgentRunner(agent, port=port, api_token=API_TOKEN) for agent in agents]
    start_together(runners)
    try:
        runners[0].start()  # changes nothing
        with pytest.raises(RuntimeError, match="start_together"):
            DaprWorkflowAgentRunner(agents[0], port=port, api_token=API_TOKEN).start()
        handles = [runner.schedule("go") for runner in runners for _ in range(5)]
        assert [handle.result().output for handle in handles] == ["one"] * 5 + ["two"] * 5
        assert set(runners[0].client.run_ids(["completed"])) == {handle.run_id for handle in handles}
    finally:
        for runner in runners:
            runner.shutdown()
    with pytest.raises(ValueError, match="a name each"):
        start_together([runners[0], runners[0]])


def test_what_a_run_does_is_told_while_it_does_it(stack: DaprStack) -> None:
    async def told() -> list[str]:
        with hosted(counting(2), stack) as runner:
            return [event["type"] async for event in runner.run_async("go", "session-1", poll_interval=0.01)]

    types = asyncio.run(told())
    assert types[0] == "workflow_started"
    assert types[-1] == "workflow_completed"
    assert types.count("operation_completed") == 5


def test_an_event_stream_handler_and_a_decorated_toolset_are_executed(stack: DaprStack) -> None:
    heard: list[str] = []

    async def hear(ctx: RunContext[Any], events: AsyncIterable[Any]) -> None:
        heard.extend([event.event_kind async for event in events])

    agent = Agent("test", name="heard", capabilities=[DaprDurability(event_stream_handler=hear)])

    @agent.toolset(id="decorated")
    def decorated(ctx: RunContext[Any]) -> FunctionToolset[Any]:
        tools: FunctionToolset[Any] = FunctionToolset(id="decorated")
        tools.tool_plain(lambda: "counted", name="count")
        return tools

    with hosted(agent, stack) as runner:
        assert runner.run_sync("go").output == '{"count":"counted"}'
    assert {"part_start", "function_tool_call", "function_tool_result"} <= set(heard)


def _says(text: str) -> Callable[[list[ModelMessage], AgentInfo], ModelResponse]:
    return lambda messages, info: ModelResponse(parts=[TextPart(text)])


def _events(runner: DaprWorkflowAgentRunner[Any, Any], run_id: str) -> Counter[str]:
    return Counter(event.type for event in operations_of(runner.client.history(run_id)))


def _does(action: Callable[[], None]) -> bool:
    try:
        action()
    except Exception:
        return False
    return True
