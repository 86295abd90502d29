"""Tools of an MCP server."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset

from tests.support.scenarios.scenario import durable, scenario, script


def weather_server() -> MCPServer:
    server: MCPServer = MCPServer("weather", instructions="Ask me about cities.", log_level="ERROR")

    @server.tool()
    def degrees(city: str) -> int:
        """How warm it is."""
        if city == "Atlantis":
            raise ToolError("no such city")
        return len(city)

    return server


def of_a_server(**options: Any) -> MCPToolset[Any]:
    return MCPToolset(weather_server(), id="weather", **options)  # type: ignore[arg-type]


@scenario()
def tools_of_an_mcp_server() -> Agent[Any, Any]:
    model = script([("degrees", {"city": "Bern"}), ("degrees", {"city": "Rome"})], ["done"])
    return durable(model, toolsets=[of_a_server(include_instructions=True)])


@scenario()
def tools_of_an_mcp_server_that_fail() -> Agent[Any, Any]:
    model = script([("in_degrees", {"city": "Atlantis"})], [("in_degrees", {"city": "Bern"})], ["done"])
    return durable(model, toolsets=[of_a_server(cache_tools=False).prefixed("in")])
