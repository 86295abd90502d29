"""A region's API over stand-ins for its database and its sidecars; a test changes what they do."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import JsonValue
from pydantic_ai_dapr import HistoryEvent, RunError, RunInput, RunStatus, WorkflowUnavailableError
from refund_desk.hosted import hosted
from run_index import Acceptance, IndexedRun, IndexUnavailableError, NotStorableError
from service.api import Region
from service.config import ServiceConfig
from service.role import RoleFile
from service.sidecars import Sidecars

TOKEN = "the-token"
PEER = "https://region-b.example:8443"
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


class MemoryIndex:
    """The index of accepted runs, which can be unavailable and says what was asked of it."""

    def __init__(self, asked: list[str]) -> None:
        self.runs: dict[str, IndexedRun] = {}
        self.unavailable: set[str] = set()
        self.asked = asked

    def accept(self, run_id: str, run_input: dict[str, JsonValue]) -> Acceptance:
        self._ask("accept", run_id)
        if "\\u0000" in json.dumps(run_input):
            raise NotStorableError("a value can't be stored: unsupported Unicode escape sequence")
        known = self.runs.get(run_id)
        if known is not None:
            same = json.dumps(known.input, sort_keys=True) == json.dumps(run_input, sort_keys=True)
            return Acceptance("existing" if same else "conflict", known)
        at = SINCE + timedelta(seconds=len(self.runs))
        self.runs[run_id] = IndexedRun(run_id, run_input, at, None, None, "accepted", None)
        return Acceptance("created", self.runs[run_id])

    def mark_scheduled(self, run_id: str) -> None:
        self._ask("mark_scheduled", run_id)

    def close_run(self, run_id: str, status: str, error: str | None = None) -> bool:
        self._ask("close_run", run_id)
        run = self.runs[run_id]
        self.runs[run_id] = IndexedRun(run_id, run.input, run.accepted_at, run.scheduled_at, SINCE, status, error)
        return True

    def get(self, run_id: str) -> IndexedRun | None:
        self._ask("get", run_id)
        return self.runs.get(run_id)

    def page(self, *, status: str | None, limit: int, before: tuple[datetime, str] | None) -> list[IndexedRun]:
        self._ask("page", str(status))
        newest_first = sorted(self.runs.values(), key=lambda run: (run.accepted_at, run.run_id), reverse=True)
        return [
            run
            for run in newest_first
            if (status is None or run.status == status) and (before is None or (run.accepted_at, run.run_id) < before)
        ][:limit]

    def is_writable(self) -> bool:
        return "is_writable" not in self.unavailable

    def _ask(self, what: str, about: str) -> None:
        self.asked.append(f"index {what} {about}")
        if what in self.unavailable:
            raise IndexUnavailableError("the run index can't be used: OperationalError")


class MemoryWorkflows:
    """One sidecar. As a real one's, its history of a run that it doesn't know is an error."""

    def __init__(self, asked: list[str]) -> None:
        self.states: dict[str, RunStatus] = {}
        self.histories: dict[str, list[HistoryEvent]] = {}
        self.inputs: dict[str, RunInput] = {}
        self.unavailable = False
        self.asked = asked

    def start(self, run_id: str, run_input: RunInput, *, timeout: float = 10.0) -> None:
        self._ask("start", run_id)
        self.inputs[run_id] = run_input
        self.become(run_id, "running")

    def status(self, run_id: str) -> RunStatus | None:
        self._ask("status", run_id)
        return self.states.get(run_id)

    def terminate(self, run_id: str) -> None:
        self._ask("terminate", run_id)
        self.become(run_id, "terminated")

    def history(self, run_id: str) -> list[HistoryEvent]:
        self._ask("history", run_id)
        if run_id not in self.states:
            raise WorkflowUnavailableError("the sidecar answered NOT_FOUND: no such instance exists")
        return self.histories.get(run_id, [])

    def become(self, run_id: str, status: str, output: JsonValue = None, error: RunError | None = None) -> None:
        at = SINCE + timedelta(minutes=1)
        self.states[run_id] = RunStatus.model_validate(
            {"run_id": run_id, "status": status, "created_at": SINCE, "updated_at": at, "output": output}
        ).model_copy(update={"error": error})

    def _ask(self, what: str, about: str) -> None:
        self.asked.append(f"workflow {what} {about}")
        if self.unavailable:
            raise WorkflowUnavailableError("the sidecar answered UNAVAILABLE")


def write_role(path: Path, role: str, epoch: int = 3) -> None:
    """As the region agent does: whole or not at all."""
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps({"region": "a", "role": role, "epoch": epoch, "since": SINCE.isoformat()}))
    beside.replace(path)


def service_config(directory: Path, **changes: object) -> dict[str, object]:
    """What region a's API is configured with."""
    return {
        "region": "a",
        "listen": "region-a.example:8443",
        "tls": {"ca": "ca.crt", "cert": "service.crt", "key": "service.key"},
        "token_file": str(directory / "token"),
        "agent": "refund_desk.hosted:hosted",
        "agent_name": "refund-desk",
        "peers": {"b": PEER},
        "role_file": str(directory / "role.json"),
        "database_dsn_file": str(directory / "dsn"),
        "sidecars": [{"grpc_port": 1, "http_port": 2}],
        "dapr_token_file": str(directory / "dapr-token"),
        **changes,
    }


def region(directory: Path, index: MemoryIndex, *workflows: MemoryWorkflows, **changes: object) -> Region:
    """Region a, whose role file is in `directory`."""
    config = ServiceConfig.model_validate(service_config(directory, **changes))
    return Region(
        config=config,
        hosted=hosted,
        index=index,  # type: ignore[arg-type]
        sidecars=Sidecars(workflows),
        role_file=RoleFile(config.role_file),
    )
