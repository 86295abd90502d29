"""Tools of an MCP server that Dapr calls: its resource `MCPServer` (Dapr 1.18), each call a child workflow.

The sidecar holds the connection, credentials and hooks of the server, and has a workflow for each of its tools.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic_ai.exceptions import ModelRetry
from pydantic_ai.messages import BinaryContent
from pydantic_ai.tools import RunContext, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool
from pydantic_core import SchemaValidator, core_schema

from pydantic_ai_dapr.run import current_run

Deps = TypeVar("Deps")
_ANY_ARGUMENTS = SchemaValidator(core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema()))


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Tool(_Wire):
    name: str
    description: str | None = None
    schema_: dict[str, Any] = Field({"type": "object", "properties": {}}, alias="inputSchema")


class _Tools(_Wire):
    tools: list[_Tool] | None = None


class _Resource(_Wire):
    uri: str = ""
    text: str | None = None
    blob: str | None = None
    media_type: str = Field("application/octet-stream", alias="mimeType")


class _Content(_Wire):
    type: str
    text: str = ""
    data: str = ""
    media_type: str = Field("application/octet-stream", alias="mimeType")
    uri: str = ""
    resource: _Resource | None = None

    def value(self) -> Any:
        """What the model is given."""
        match self.type:
            case "text":
                return _parsed(self.text)
            case "image" | "audio":
                return BinaryContent(base64.b64decode(self.data), media_type=self.media_type)
            case "resource" if self.resource is not None and self.resource.blob is not None:
                return BinaryContent(base64.b64decode(self.resource.blob), media_type=self.resource.media_type)
            case "resource" if self.resource is not None:
                return self.resource.text or ""
            case _:
                return self.uri or self.model_dump(mode="json", exclude_defaults=True)


class _Answer(_Wire):
    content: list[_Content] | None = None
    structured: JsonValue = Field(None, alias="structuredContent")
    is_error: bool = Field(False, alias="isError")

    def value(self) -> Any:
        """The structured answer where the rest only repeats it as text, else each part of the answer."""
        parts = self.content or []
        if self.structured is not None and all(part.type == "text" for part in parts):
            wrapped = isinstance(self.structured, dict) and self.structured.keys() == {"result"}
            return self.structured["result"] if wrapped else self.structured  # type: ignore[index, call-overload]
        values = [part.value() for part in parts]
        return values[0] if len(values) == 1 else values


class MCPServerToolset(AbstractToolset[Deps]):
    """The tools of Dapr's `MCPServer` resource `server`, in durable runs only.

    What has been answered is not called again, and a call that was in flight at a crash is Dapr's to finish: the
    worker may be gone meanwhile. After lost wake-ups it is called once more. What the server calls an error is told
    to the model, which may try again `max_retries` times. The run lists the tools once, at its first step.

    Every sidecar of the app needs the resource. A call can't carry an idempotency key of its own: a tool that changes
    the world takes one as an argument.
    """

    def __init__(self, server: str, *, id: str | None = None, max_retries: int = 1, tools: Sequence[str] | None = None):
        self._server, self._id, self._max_retries = server, id or f"mcp-{server}", max_retries
        self._chosen = None if tools is None else set(tools)

    @property
    def id(self) -> str:
        return self._id

    async def get_tools(self, ctx: RunContext[Deps]) -> dict[str, ToolsetTool[Deps]]:
        listed = _Tools.model_validate(await self._listed()).tools or []
        missing = (self._chosen or set()) - {tool.name for tool in listed}
        if missing:
            raise ValueError(f"MCPServer {self._server!r} has no {sorted(missing)}: its tools are {_names(listed)}")
        return {
            tool.name: ToolsetTool(
                toolset=self,
                tool_def=ToolDefinition(
                    name=tool.name, description=tool.description, parameters_json_schema=tool.schema_
                ),
                max_retries=self._max_retries,
                args_validator=_ANY_ARGUMENTS,
            )
            for tool in listed
            if self._chosen is None or tool.name in self._chosen
        }

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Deps], tool: ToolsetTool[Deps]
    ) -> Any:
        answer = _Answer.model_validate(await self._workflow(f"CallTool.{name}", {"arguments": tool_args}))
        if answer.is_error:
            told = answer.value()
            raise ModelRetry(told if isinstance(told, str) else json.dumps(told, default=str))
        return answer.value()

    async def _listed(self) -> Any:
        """The list, asked for once in a run."""
        run = current_run.get()
        notes = run.notes if run is not None else {}
        key = f"mcp-server:{self._server}"
        if key not in notes:
            notes[key] = asyncio.ensure_future(self._workflow("ListTools", {}))
        return await notes[key]

    async def _workflow(self, method: str, value: dict[str, Any]) -> Any:
        run = current_run.get()
        if run is None:
            raise RuntimeError(
                f"the tools of MCPServer {self._server!r} are called by Dapr, in durable runs only; "
                "run the agent with DaprWorkflowAgentRunner"
            )
        name, ordinal = f"dapr.internal.mcp.{self._server}.{method}", run.next_ordinal()
        return await run.call_child(name, lambda: value, f"{run.instance_id}.{ordinal}", hears_recover=False)


def _names(tools: Sequence[_Tool]) -> list[str]:
    return sorted(tool.name for tool in tools)


def _parsed(text: str) -> Any:
    """What a text says where it is JSON, as PydanticAI's own `MCPToolset` gives it."""
    if text.startswith(("[", "{")):
        try:
            return json.loads(text)
        except ValueError:
            pass
    return text
