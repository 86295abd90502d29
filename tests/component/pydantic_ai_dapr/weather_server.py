"""An MCP server over HTTP that writes every call down, a slow one before it answers."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer


def main(port: str, calls: str, seconds: str) -> None:
    server: Any = MCPServer("weather")

    @server.tool()
    def forecast(city: str) -> str:
        """What the weather will be."""
        with Path(calls).open("a") as file:
            file.write(json.dumps({"city": city}) + "\n")
        time.sleep(float(seconds))
        return f"sunny in {city}"

    @server.tool()
    def extremes() -> dict[str, int]:
        """The highest and the lowest temperature."""
        return {"high": 30, "low": -2}

    @server.tool()
    def broken(city: str) -> str:
        """Breaks."""
        raise ValueError(f"no station in {city}")

    server.run("streamable-http", host="127.0.0.1", port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
