"""Starts and stops the region's processes through their supervisor's socket."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError


class SupervisorError(Exception):
    """The supervisor did not do what it was told."""


class Processes(Protocol):
    """Who starts and stops the region's processes. Each call may be repeated, and raises SupervisorError."""

    async def running(self) -> dict[str, int]: ...
    async def start(self, process: str) -> None: ...
    async def stop(self, process: str) -> None: ...


class _Process(BaseModel):
    model_config = ConfigDict(extra="ignore")
    name: str
    pid: int
    is_running: bool
    status: str = ""

    @property
    def comes_back(self) -> bool:
        """Whether it runs, or will without being told to."""
        return self.is_running or self.status in ("Restarting", "Launching", "Pending")


class _Processes(BaseModel):
    model_config = ConfigDict(extra="ignore")
    data: list[_Process]


class Supervisor:
    """The supervisor behind a unix socket, however long the path of that socket is."""

    def __init__(self, socket: Path) -> None:
        directory = os.open(socket.parent, os.O_RDONLY | os.O_DIRECTORY)
        transport = httpx.AsyncHTTPTransport(uds=f"/proc/self/fd/{directory}/{socket.name}")
        self._client = httpx.AsyncClient(transport=transport, base_url="http://supervisor", timeout=30.0)

    async def running(self) -> dict[str, int]:
        """The ids of the processes that run, by name."""
        return {process.name: process.pid for process in await self._processes() if process.is_running}

    async def start(self, process: str) -> None:
        """Start a process; one that runs, or is about to, stays as it is."""
        if not await self._comes_back(process):
            await self._call("POST", f"/process/start/{process}")

    async def stop(self, process: str) -> None:
        """Stop a process, also one that has ended and is about to be restarted. Returns when it has ended."""
        if await self._comes_back(process):
            await self._call("PATCH", f"/process/stop/{process}")

    async def _comes_back(self, name: str) -> bool:
        return any(process.name == name and process.comes_back for process in await self._processes())

    async def _processes(self) -> list[_Process]:
        response = await self._call("GET", "/processes")
        try:
            return _Processes.model_validate_json(response.content).data
        except ValidationError as error:
            raise SupervisorError(
                f"the supervisor's answer to GET /processes makes no sense: {response.text[:300]}"
            ) from error

    async def _call(self, method: str, path: str) -> httpx.Response:
        try:
            response = await self._client.request(method, path)
        except httpx.HTTPError as error:
            raise SupervisorError(f"the supervisor does not answer {method} {path}: {error!r}") from error
        if response.is_error:
            raise SupervisorError(f"the supervisor refused {method} {path}: {response.text[:300]}")
        return response
