"""Agents that ask other agents: each question is a child workflow, with a history and a worker of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_ai.tools import RunContext, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool
from pydantic_core import SchemaValidator, core_schema

from pydantic_ai_dapr.client import workflow_name
from pydantic_ai_dapr.run import current_run
from pydantic_ai_dapr.tracing import carried
from pydantic_ai_dapr.types import RunInput

if TYPE_CHECKING:
    from pydantic_ai_dapr.runner import DaprWorkflowAgentRunner

_ARGUMENTS = SchemaValidator(
    core_schema.typed_dict_schema({"prompt": core_schema.typed_dict_field(core_schema.str_schema(), required=True)})
)
_SCHEMA = {
    "type": "object",
    "properties": {"prompt": {"type": "string", "description": "What is asked of the agent."}},
    "required": ["prompt"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class ChildAgent:
    """An agent that another one may ask; `description` tells the model what for."""

    runner: DaprWorkflowAgentRunner[Any, Any]
    description: str


class ChildAgents(AbstractToolset[Any]):
    """A tool for each agent, named as its runner is, that takes a prompt and returns the agent's output.

    In a durable run each call is a child workflow `<run id>.<ordinal>`: it is executed wherever a worker hosts that
    agent, is not asked again once it has answered, and is woken with its parent after a failover. Its usage counts
    as the parent's. Outside a durable run the agent runs inline. A child that fails fails the call.
    """

    def __init__(self, agents: Sequence[ChildAgent], *, id: str = "child-agents") -> None:
        self._agents, self._id = {one.runner.name: one for one in agents}, id

    @property
    def id(self) -> str:
        return self._id

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        return {
            name: ToolsetTool(
                toolset=self,
                tool_def=ToolDefinition(name=name, description=one.description, parameters_json_schema=_SCHEMA),
                max_retries=1,
                args_validator=_ARGUMENTS,
            )
            for name, one in self._agents.items()
        }

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        runner, prompt, run = self._agents[name].runner, tool_args["prompt"], current_run.get()
        if run is None:
            return (await runner.agent.run(prompt, usage=ctx.usage)).output
        ordinal = run.next_ordinal()
        run_id = f"{run.notes['run_id']}.{ordinal}"
        run_input = RunInput(run_id=run_id, prompt=prompt, version=runner.version, trace=carried())
        value = run_input.model_dump(mode="json", exclude_defaults=True)
        answer = await run.call_child(workflow_name(runner.name), lambda: value, f"{run.instance_id}.{ordinal}")
        result = runner.result_of(run.resolve(answer))
        ctx.usage.incr(result.usage)
        return result.output
