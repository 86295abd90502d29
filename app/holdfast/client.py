"""An HTTP client of a deployment: asks the active region, and finds it again after a failover."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

LOOK_AGAIN_SECONDS = 0.2


class RunView(BaseModel):
    """A run as the API tells of it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    run_id: str
    status: str
    accepted_at: str
    updated_at: str | None = None
    output: JsonValue = None
    error: str | None = None


class HistoryView(BaseModel):
    """One event of a run's workflow history."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    sequence: int
    type: str
    timestamp: str
    task_id: int | None = None
    name: str | None = None
    input: JsonValue = None
    result: JsonValue = None


class _Page(BaseModel):
    model_config = ConfigDict(extra="ignore")
    runs: list[RunView]
    next: str | None = None


class _RoleView(BaseModel):
    model_config = ConfigDict(extra="ignore")
    role: str


class NotAnsweredError(Exception):
    """No region gave an answer in time."""


@dataclass(frozen=True)
class Start:
    """What became of a start: acknowledged (`ok`), `refused` for good, or `unknown`: it may have been accepted."""

    outcome: Literal["ok", "refused", "unknown"]
    region: str
    detail: str


class HoldfastClient:
    """Asks the region that answered last as the active one, and looks for another when it no longer is."""

    def __init__(self, apis: Mapping[str, str], *, ca: Path, token: str, timeout: float = 5.0) -> None:
        self._apis = dict(apis)
        self._client = httpx.Client(
            verify=ssl.create_default_context(cafile=str(ca)),
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout,
            trust_env=False,
        )
        self._active: str | None = None

    def active_region(self) -> str | None:
        """The region that says that it is active, or None."""
        for region, url in self._apis.items():
            try:
                answer = self._client.get(f"{url}/v1/role", timeout=1.0)
                if answer.is_success and _RoleView.model_validate_json(answer.content).role == "active":
                    self._active = region
                    return region
            except (httpx.HTTPError, ValidationError):
                continue
        self._active = None
        return None

    def start(self, run_id: str, run_input: Mapping[str, JsonValue]) -> Start:
        """Try once to start a run. An `unknown` outcome may be tried again under the same id without harm."""
        region = self._active or self.active_region()
        if region is None:
            return Start("unknown", "", "no region is active")
        body = {"run_id": run_id, "input": dict(run_input)}
        try:
            response = self._client.post(f"{self._apis[region]}/v1/runs", json=body)
        except httpx.HTTPError as error:
            self._active = None
            return Start("unknown", region, type(error).__name__)
        if response.is_success:
            return Start("ok", region, str(response.status_code))
        if response.status_code in (429, 500, 502, 503, 504):
            self._active = None
            return Start("unknown", region, str(response.status_code))
        return Start("refused", region, f"{response.status_code}: {response.text[:300]}")

    def run(self, run_id: str) -> RunView | None:
        """A run, or None where none was accepted under that id. Raises NotAnsweredError."""
        response = self._get(f"/v1/runs/{quote(run_id, safe='')}")
        return None if response.status_code == 404 else RunView.model_validate_json(response.content)

    def runs(self, *, status: str | None = None, limit: int = 1000) -> list[RunView]:
        """Runs, newest first. Raises NotAnsweredError."""
        query: dict[str, str] = {"limit": str(limit)} | ({"status": status} if status else {})
        return _Page.model_validate_json(self._get("/v1/runs", query).content).runs

    def history(self, run_id: str) -> list[HistoryView]:
        """A run's workflow history. Raises NotAnsweredError."""
        response = self._get(f"/v1/runs/{quote(run_id, safe='')}/history")
        if response.status_code == 404:
            raise NotAnsweredError(f"no run {run_id} is known any more")
        return _HISTORY.validate_json(response.content)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _get(self, path: str, query: Mapping[str, str] | None = None, seconds: float = 15.0) -> httpx.Response:
        deadline, seen = time.monotonic() + seconds, "no region is active"
        while time.monotonic() < deadline:
            region = self._active or self.active_region()
            if region is not None:
                try:
                    response = self._client.get(f"{self._apis[region]}{path}", params=dict(query or {}))
                    if response.is_success or response.status_code == 404:
                        return response
                    seen = f"{response.status_code}: {response.text[:200]}"
                except httpx.HTTPError as error:
                    seen = type(error).__name__
                self._active = None
            time.sleep(LOOK_AGAIN_SECONDS)
        raise NotAnsweredError(f"GET {path} had no answer within {seconds:g} s; last seen: {seen}")


_HISTORY = TypeAdapter(list[HistoryView])
