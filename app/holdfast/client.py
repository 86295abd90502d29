"""An HTTP client of a deployment: asks the active region, and finds it again after a failover."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

LOOK_AGAIN_SECONDS = 0.2
EXPORT_SECONDS = 60.0
_PASSING = (429, 500, 502, 503, 504)
_FINAL = (404, 409, 410, 422)


class RunView(BaseModel):
    """A run as the API tells of it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    run_id: str
    agent: str = ""
    status: str
    accepted_at: str
    updated_at: str | None = None
    output: JsonValue = None
    error: str | None = None
    rerun_of: str | None = None
    from_step: int | None = None


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
    due: str | None = None


class ErrorView(BaseModel):
    """Why an operation failed."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: str
    message: str


class StepView(BaseModel):
    """One attempt at an operation of a run. Where that asked another agent, `instance_id` is its answer's workflow."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    ordinal: int
    kind: str
    name: str
    attempt: int
    input: JsonValue = None
    output: JsonValue = None
    error: ErrorView | None = None
    started: str
    seconds: float | None = None
    issued: int = 1
    instance_id: str | None = None


class WaitingView(BaseModel):
    """A tool call that waits for a person's decision."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    tool_call_id: str
    tool: str
    arguments: JsonValue = None


class _Page(BaseModel):
    model_config = ConfigDict(extra="ignore")
    runs: list[RunView]
    next: str | None = None


class _RoleView(BaseModel):
    model_config = ConfigDict(extra="ignore")
    role: str


class _Problem(BaseModel):
    model_config = ConfigDict(extra="ignore")
    detail: str


class NotAnsweredError(Exception):
    """No region gave what was asked for, in time."""


class RefusedError(NotAnsweredError):
    """The active region has said no for good. `status` is that of HTTP."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True)
class Start:
    """What became of a start or a decision: acknowledged (`ok`), `refused` for good, or `unknown`: it may count."""

    outcome: Literal["ok", "refused", "unknown"]
    region: str
    detail: str
    status: int | None = None


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
        return self._post("/v1/runs", {"run_id": run_id, "input": dict(run_input)})

    def rerun(self, run_id: str, new_id: str, *, from_step: int | None = None, fresh: bool = False) -> Start:
        """Try once to run an ended run again under `new_id`; `unknown` may be tried again without harm, as a start."""
        body: dict[str, JsonValue] = {"run_id": new_id, "from_step": from_step, "fresh": fresh}
        return self._post(f"{_path(run_id)}/rerun", body)

    def approve(self, run_id: str, call_id: str, *, approved: bool, who: str, message: str | None = None) -> Start:
        """Try once to decide a tool call that waits; `unknown` may be tried again without harm."""
        body: dict[str, JsonValue] = {"tool_call_id": call_id, "approved": approved, "who": who, "message": message}
        return self._post(f"{_path(run_id)}/approvals", body)

    def waiting(self, run_id: str) -> list[WaitingView]:
        """The tool calls of a run that wait for a decision. Raises NotAnsweredError."""
        return _WAITING.validate_json(self._get(f"{_path(run_id)}/approvals"))

    def run(self, run_id: str) -> RunView | None:
        """A run, or None where none was accepted under that id. Raises NotAnsweredError."""
        try:
            return RunView.model_validate_json(self._get(_path(run_id)))
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    def runs(
        self,
        *,
        status: str | None = None,
        agent: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        id_contains: str | None = None,
        limit: int = 1000,
    ) -> list[RunView]:
        """Runs, newest first, that were accepted from `since` on and before `until`. Raises NotAnsweredError."""
        filters = {"status": status, "agent": agent, "since": since, "until": until, "id_contains": id_contains}
        query = {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in filters.items()
            if value is not None
        }
        return _Page.model_validate_json(self._get("/v1/runs", query | {"limit": str(limit)})).runs

    def history(self, run_id: str, *, seconds: float = 15.0) -> list[HistoryView]:
        """A run's workflow history. Raises NotAnsweredError."""
        return _HISTORY.validate_json(self._get(f"{_path(run_id)}/history", seconds=seconds))

    def steps(self, run_id: str) -> list[StepView]:
        """A run's operations, each attempt. Raises NotAnsweredError."""
        return _STEPS.validate_json(self._get(f"{_path(run_id)}/steps"))

    def export(self, run_id: str) -> bytes:
        """A run's whole history, as a file. Raises NotAnsweredError."""
        return self._get(f"{_path(run_id)}/export", seconds=EXPORT_SECONDS, timeout=EXPORT_SECONDS)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _post(self, path: str, body: Mapping[str, JsonValue]) -> Start:
        region = self._active or self.active_region()
        if region is None:
            return Start("unknown", "", "no region is active")
        try:
            response = self._client.post(f"{self._apis[region]}{path}", json=body)
        except httpx.HTTPError as error:
            self._active = None
            return Start("unknown", region, type(error).__name__)
        code = response.status_code
        if response.is_success:
            return Start("ok", region, str(code), code)
        if code in _PASSING:
            self._active = None
            return Start("unknown", region, str(code), code)
        return Start("refused", region, f"{code}: {_detail(response)}", code)

    def _get(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        seconds: float = 15.0,
        timeout: float | None = None,
    ) -> bytes:
        deadline, seen = time.monotonic() + seconds, "no region is active"
        while time.monotonic() < deadline:
            region = self._active or self.active_region()
            if region is not None:
                try:
                    url, params = f"{self._apis[region]}{path}", dict(query or {})
                    response = self._client.get(url, params=params, timeout=timeout or self._client.timeout)
                    if response.is_success:
                        return response.content
                    if response.status_code in _FINAL:
                        raise RefusedError(response.status_code, _detail(response))
                    seen = f"{response.status_code}: {_detail(response)}"
                except httpx.HTTPError as error:
                    seen = type(error).__name__
                self._active = None
            time.sleep(LOOK_AGAIN_SECONDS)
        raise NotAnsweredError(f"GET {path} had no answer within {seconds:g} s; last seen: {seen}")


def _path(run_id: str) -> str:
    return f"/v1/runs/{quote(run_id, safe='')}"


def _detail(response: httpx.Response) -> str:
    """What a problem says, or the beginning of what else was answered."""
    try:
        return _Problem.model_validate_json(response.content).detail
    except ValidationError:
        return response.text[:300]


_HISTORY = TypeAdapter(list[HistoryView])
_STEPS = TypeAdapter(list[StepView])
_WAITING = TypeAdapter(list[WaitingView])
