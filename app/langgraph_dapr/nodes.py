"""A graph whose nodes are activities: the graph itself runs in the workflow, and each node's function in a worker."""

# LangGraph's generic classes are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportMissingTypeStubs=false
from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.channels import EphemeralValue, LastValue
from langgraph.errors import NodeError
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import NodeBuilder, Pregel
from langgraph.types import CachePolicy, Command, Interrupt, RetryPolicy
from pydantic_ai_dapr import Operation, Retry
from pydantic_ai_dapr.errors import ErrorValue, judge, rebuild, to_value
from pydantic_ai_dapr.operations import perform
from pydantic_ai_dapr.run import LiveRun, current_run

from langgraph_dapr.codec import Codec
from langgraph_dapr.saver import contents, memory_saver

START = "__start__"
AS_POLICY_SAYS = Retry(attempts=sys.maxsize, first_seconds=0.0, longest_seconds=float("inf"))
"""Where a node has policies of its own, its worker says with each error whether to try again, and after what time."""

Graph = CompiledStateGraph[Any, Any, Any, Any]
Wire = dict[str, Any]


@dataclass(frozen=True)
class NodeActivity:
    """Executes one node's function, outside the workflow; `executor` is a graph of that node alone."""

    name: str
    executor: Pregel[Any, Any, Any, Any]
    policies: Sequence[RetryPolicy]
    codec: Codec

    async def execute(self, operation: Operation, wire: Wire) -> Wire:
        """`{"returned": …}`, or `{"interrupts": …}` with what is needed to go on from there."""
        load, dump = self.codec.load, self.codec.dump
        saver = memory_saver(self.codec.serde, load(wire.get("kept")))
        given: Any = Command(resume=load(wire["answers"])) if "answers" in wire else wire["given"]
        try:
            output = await self.executor.copy({"checkpointer": saver}).ainvoke(
                given, load(wire["config"]), context=load(wire["context"]), version="v2"
            )
        except Exception as error:
            self._judge(error, operation.attempt - wire["first_attempt"] + 1)
            raise
        if output.interrupts:
            asked: list[Interrupt] = list(output.interrupts)
            return {
                "interrupts": [{"id": one.id, "value": dump(one.value)} for one in asked],
                "kept": dump(contents(saver)),
            }
        # A subgraph that the node's function calls may leave a command to this graph in place of a value.
        value: Any = output.value
        return {"returned": dump(value)} if isinstance(value, Command) else value

    def _judge(self, error: Exception, tries: int) -> None:
        """Note on the error what the node's policies, where it has any, say to it at the attempt `tries`."""
        if not self.policies:
            return
        policy = next((one for one in self.policies if _applies(one, error)), None)
        if policy is None or tries >= policy.max_attempts:
            judge(error, retryable=False)
        else:
            delay = min(policy.max_interval, policy.initial_interval * policy.backoff_factor ** (tries - 1))
            judge(error, retryable=True, retry_after=delay + (random.random() if policy.jitter else 0.0))


class DurableNode(Runnable[Any, Any]):
    """Stands in the workflow for a node's function: asks for its execution, and waits where it is interrupted."""

    def __init__(self, activity: str, node: NodeActivity) -> None:
        self.name, self._activity, self._node = node.name, activity, node

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        raise RuntimeError(f"node {self.name} was called without waiting for it; call the graph with ainvoke")

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        run = current_run.get()
        assert run is not None
        assert config is not None
        request = self._request(run, input, config)
        operation = Operation(run.notes["run_id"], run.instance_id, run.next_ordinal(), "node", str(self.name), 1)
        retry = AS_POLICY_SAYS if self._node.policies else Retry()
        while True:
            wire = request | {"first_attempt": operation.attempt}
            answer, done = await perform(run, self._activity, operation, lambda wire=wire: wire, retry)
            if "returned" in answer:
                return self._node.codec.load(answer["returned"])
            answers = await answers_to(run, answer["interrupts"], self._node.codec)
            answered = {"kept": answer["kept"], "answers": self._node.codec.dump(answers)}
            request = {key: request[key] for key in ("config", "context")} | answered
            operation = replace(done, attempt=done.attempt + 1)

    def _request(self, run: LiveRun, value: Any, config: RunnableConfig) -> Wire:
        dump = self._node.codec.dump
        configurable = config.get("configurable", {})
        metadata = config.get("metadata", {})
        failed = next((one for one in configurable.values() if isinstance(one, NodeError)), None)
        # What a Send carries is given to the node as it is; a state is made of its channels.
        given: Wire = {"state": dump(value), "is_state": metadata["langgraph_path"][0] == "__pregel_pull"}
        if failed is not None:
            cause = to_value(failed.error).model_dump(mode="json", exclude_none=True)
            given["failed"] = {"node": failed.node, "error": cause}
        return {"given": given, "config": dump(_carried(config)), "context": run.notes["context"]}


class DurableGraph:
    """`graph` with its nodes, and those of its subgraphs, as activities: `nodes`, by their activities' names."""

    def __init__(self, graph: Graph, name: str, codec: Codec) -> None:
        self.codec, self._prefix = codec, f"langgraph_dapr.{name}"
        self.breakpoint_activity = f"{self._prefix}:breakpoint"
        self.nodes: dict[str, NodeActivity] = {}
        self._keeps_checkpoints = False
        self._graph = self._durable(graph, "", graph)

    async def run(
        self, value: Any, config: RunnableConfig, context: Any, heard: Callable[[Any], None] | None = None
    ) -> Any:
        """Runs inside a durable run, to the graph's end, and returns its output.

        `heard` is told of each checkpoint, as LangGraph's stream mode `checkpoints` gives it.
        """
        if not self._keeps_checkpoints and heard is None:
            return await self._graph.ainvoke(value, config, context=context)
        graph = self._graph.copy({"checkpointer": memory_saver(self.codec.serde)})
        while True:
            output: Any = None
            async for mode, chunk in graph.astream(
                value, config, context=context, stream_mode=["values", "checkpoints"]
            ):
                if mode == "values":
                    output = chunk
                elif heard is not None:
                    heard(chunk)
            ahead = (await graph.aget_state(config)).next
            if not ahead:
                return output
            await self._pause(ahead)
            value = None

    async def breakpoint(self, operation: Operation, wire: Wire) -> Wire:
        """The activity of a breakpoint."""
        return {"interrupts": [{"id": f"breakpoint-{operation.ordinal}", "value": None}]}

    async def _pause(self, ahead: Sequence[str]) -> None:
        run = current_run.get()
        assert run is not None
        operation = Operation(run.notes["run_id"], run.instance_id, run.next_ordinal(), "node", ", ".join(ahead), 1)
        answer, _ = await perform(run, self.breakpoint_activity, operation, lambda: {}, Retry())
        await answers_to(run, answer["interrupts"], self.codec)

    def _durable(self, graph: Graph, path: str, root: Graph) -> Graph:
        if graph.interrupt_before_nodes or graph.interrupt_after_nodes or graph.checkpointer is True:
            self._keeps_checkpoints = True
        nodes: dict[str, Any] = {}
        for name, node in graph.nodes.items():
            if name == START:
                nodes[name] = node
                continue
            bound: Any = node.bound
            if isinstance(bound, Pregel):
                nodes[name] = node.copy({"bound": self._subgraph(node, bound, f"{path}{name}", root)})
                continue
            activity = f"{self._prefix}.{path}{name}"
            policies = node.retry_policy or graph.retry_policy
            executor = _alone(name, node, graph, root, self.codec)
            self.nodes[activity] = NodeActivity(f"{path}{name}", executor, tuple(policies), self.codec)
            nodes[name] = node.copy(
                {
                    "bound": DurableNode(activity, self.nodes[activity]),
                    "mapper": None,
                    "retry_policy": None,
                    "cache_policy": None,
                    "timeout": None,
                    "subgraphs": [],
                }
            )
        checkpointer = True if graph.checkpointer is True else None
        return graph.copy(
            {
                "nodes": nodes,
                "checkpointer": checkpointer,
                "store": None,
                "cache": None,
                "retry_policy": (),
                "cache_policy": None,
            }
        )

    def _subgraph(self, node: Any, bound: Any, path: str, root: Graph) -> Graph:
        if not isinstance(bound, CompiledStateGraph):
            raise TypeError(f"node {path} is a {type(bound).__name__}; only graphs made with StateGraph can be nodes")
        if node.retry_policy or node.cache_policy or node.timeout:
            raise ValueError(
                f"node {path} is a subgraph, whose nodes are activities of their own: "
                "give retry_policy, cache_policy and timeout to them"
            )
        return self._durable(cast("Graph", bound), f"{path}/", root)


async def answers_to(run: LiveRun, interrupts: list[Wire], codec: Codec) -> dict[str, Any]:
    """Waits for an answer to each interrupt, for as long as it takes."""
    values = await asyncio.gather(*(run.signal(resume_event(one["id"])) for one in interrupts))
    ids = [one["id"] for one in interrupts]
    return dict(zip(ids, (codec.load(run.resolve(value)) for value in values), strict=True))


def resume_event(interrupt_id: str) -> str:
    """The external event that answers an interrupt."""
    return f"resume:{interrupt_id}"


def _alone(name: str, node: Any, graph: Graph, root: Graph, codec: Codec) -> Pregel[Any, Any, Any, Any]:
    """A graph of one node, which LangGraph runs with all that a node may ask for: runtime, store, interrupts."""
    bound = node.bound

    async def call(given: Wire, config: RunnableConfig) -> Wire:
        extra = {"error": _failure(given)} if "error" in getattr(bound, "func_accepts", ()) else {}
        return {"returned": codec.dump(await bound.ainvoke(state_of(given), config, **extra))}

    def state_of(given: Wire) -> Any:
        state = codec.load(given["state"])
        return node.mapper(state) if node.mapper and given["is_state"] else state

    builder = NodeBuilder().subscribe_only("given").do(call).write_to("returned")
    policy: CachePolicy[Any] | None = node.cache_policy or graph.cache_policy
    if policy is not None:
        key_of = policy.key_func
        builder.add_cache_policy(replace(policy, key_func=lambda given: key_of(state_of(given))))
    if node.timeout is not None:
        builder.set_timeout(node.timeout)
    return Pregel(
        nodes={name: builder.build()},
        channels={"given": EphemeralValue(Any), "returned": LastValue(Any)},
        input_channels="given",
        output_channels="returned",
        store=graph.store or root.store,
        cache=graph.cache or root.cache,
        context_schema=graph.context_schema,
    )


def _failure(given: Wire) -> NodeError | None:
    failed = given.get("failed")
    return NodeError(failed["node"], rebuild(ErrorValue.model_validate(failed["error"]))) if failed else None


def _carried(config: RunnableConfig) -> RunnableConfig:
    """Of a node's configuration, what the graph's user put there, and where in the graph the node is."""
    own = {"checkpoint_id", "checkpoint_ns", "checkpoint_map"}
    metadata = config.get("metadata", {})
    hidden = {"langgraph_triggers", "langgraph_path", "langgraph_checkpoint_ns", "checkpoint_ns"}
    return {
        "configurable": {
            key: one
            for key, one in config.get("configurable", {}).items()
            if not key.startswith("__pregel") and key not in own
        },
        "metadata": {key: one for key, one in metadata.items() if key not in hidden},
        "tags": config.get("tags", []),
        "recursion_limit": config.get("recursion_limit", 25),
    }


def _applies(policy: RetryPolicy, error: Exception) -> bool:
    if isinstance(policy.retry_on, type):
        return isinstance(error, policy.retry_on)
    if callable(policy.retry_on):
        return policy.retry_on(error)
    return isinstance(error, tuple(policy.retry_on))
