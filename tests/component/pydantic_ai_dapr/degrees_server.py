"""An MCP server in a process of its own: over its standard input, or over HTTP on the port that it is given."""

from __future__ import annotations

import sys

from mcp.server.mcpserver import MCPServer

server: MCPServer = MCPServer("weather", instructions="Ask me about cities.", log_level="ERROR")


@server.tool()
def degrees(city: str) -> int:
    """How warm it is."""
    return len(city)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run("stdio")
