"""A region's API over stand-ins for its database and its sidecars; a test changes what they do."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from pydantic import JsonValue
from pydantic_ai_dapr import (
    Export,
    ExportError,
    HistoryEvent,
    RunError,
    RunInput,
    RunStatus,
    StateStore,
    WorkflowUnavailableError,
    steps,
)
from refund_desk.hosted import hosted
from run_index import Acceptance, AuditEntry, Deed, Epoch, IndexedRun, IndexUnavailableError, NotStorableError
from service.config import ServiceConfig
from service.console import Console
from service.console.access import Sessions
from service.console.masking import Masks
from service.console.neighbour import Neighbour
from service.region import Region
from service.role import RoleFile
from service.sidecars import Sidecars

TOKEN = "the-token"
VIEWER, OPERATOR = "a-viewer-s-token", "an-operator-s-token"
PEER = "https://region-b.example:8443"
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


class MemoryIndex:
    """The index of accepted runs, which can be unavailable and says what was asked of it."""

    def __init__(self, asked: list[str]) -> None:
        self.runs: dict[str, IndexedRun] = {}
        self.unavailable: set[str] = set()
        self.asked = asked

    def accept(
        self,
        run_id: str,
        run_input: dict[str, JsonValue],
        *,
        agent: str = "",
        rerun_of: str | None = None,
        rerun_step: int | None = None,
    ) -> Acceptance:
        self._ask("accept", run_id)
        if "\\u0000" in json.dumps(run_input):
            raise NotStorableError("a value can't be stored: unsupported Unicode escape sequence")
        known = self.runs.get(run_id)
        if known is not None:
            first, again = ({**one, "trace": {}} for one in (known.input, run_input))
            same = (first, known.rerun_of, known.rerun_step) == (again, rerun_of, rerun_step)
            return Acceptance("existing" if same else "conflict", known)
        at = SINCE + timedelta(seconds=len(self.runs))
        self.runs[run_id] = IndexedRun(run_id, run_input, at, None, None, "accepted", None, agent, rerun_of, rerun_step)
        return Acceptance("created", self.runs[run_id])

    def mark_scheduled(self, run_id: str) -> None:
        self._ask("mark_scheduled", run_id)

    def close_run(self, run_id: str, status: str, error: str | None = None) -> bool:
        self._ask("close_run", run_id)
        self.runs[run_id] = replace(self.runs[run_id], closed_at=SINCE, status=status, error=error)
        return True

    def get(self, run_id: str) -> IndexedRun | None:
        self._ask("get", run_id)
        return self.runs.get(run_id)

    def page(
        self,
        *,
        limit: int,
        before: tuple[datetime, str] | None = None,
        status: str | None = None,
        agent: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        id_contains: str | None = None,
    ) -> list[IndexedRun]:
        self._ask("page", str(status))
        newest_first = sorted(self.runs.values(), key=lambda run: (run.accepted_at, run.run_id), reverse=True)
        return [
            run
            for run in newest_first
            if (status is None or run.status == status)
            and (agent is None or run.agent == agent)
            and (since is None or run.accepted_at >= since)
            and (until is None or run.accepted_at < until)
            and (id_contains is None or id_contains in run.run_id)
            and (before is None or (run.accepted_at, run.run_id) < before)
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
        self.exports: dict[str, Export] = {}
        self.inputs: dict[str, RunInput] = {}
        self.reruns: dict[str, tuple[str, int]] = {}
        self.decisions: list[tuple[str, str, bool, str | None, str | None]] = []
        self.unavailable = False
        self.asked = asked

    def start(self, run_id: str, run_input: RunInput, *, timeout: float = 10.0) -> None:
        self._ask("start", run_id)
        self.inputs[run_id] = run_input
        self.become(run_id, "running")

    def status(self, run_id: str) -> RunStatus | None:
        self._ask("status", run_id)
        return self.states.get(run_id)

    def approve(self, run_id: str, tool_call_id: str, *, approved: bool, message: str | None, who: str | None) -> None:
        self._ask("approve", run_id)
        self.decisions.append((run_id, tool_call_id, approved, message, who))

    def terminate(self, run_id: str) -> None:
        self._ask("terminate", run_id)
        self.become(run_id, "terminated")

    def history(self, run_id: str) -> list[HistoryEvent]:
        self._ask("history", run_id)
        if run_id not in self.states:
            raise WorkflowUnavailableError("the sidecar answered NOT_FOUND: no such instance exists")
        return self.histories.get(run_id, [])

    def export(self, run_id: str, store: StateStore | None = None) -> Export:
        self._ask("export", run_id)
        assert store is not None
        if run_id not in self.exports:
            raise ExportError(f"run {run_id} can't be exported: its history has no beginning")
        return self.exports[run_id]

    def task_of(self, run_id: str, step: int) -> int:
        self._ask("task_of", run_id)
        found = {one.ordinal: one.task_id for one in steps(self.histories[run_id])}
        if step not in found:
            raise ValueError(f"run {run_id} can't be run again from operation {step}")
        return found[step]

    def rerun_from(self, run_id: str, step: int, new_id: str) -> None:
        self._ask("rerun_from", run_id)
        self.reruns[new_id] = (run_id, step)
        self.become(new_id, "running")

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
        "app_id": "refund-desk",
        "peers": {"b": PEER},
        "role_file": str(directory / "role.json"),
        "database_dsn_file": str(directory / "dsn"),
        "sidecars": [{"grpc_port": 1, "http_port": 2}],
        "dapr_token_file": str(directory / "dapr-token"),
        **changes,
    }


def region(
    directory: Path,
    index: MemoryIndex,
    *workflows: MemoryWorkflows,
    trail: MemoryTrail | None = None,
    **changes: object,
) -> Region:
    """Region a, whose role file is in `directory`."""
    config = ServiceConfig.model_validate(service_config(directory, **changes))
    return Region(
        config=config,
        hosted=hosted,
        index=index,  # type: ignore[arg-type]
        audit=trail or MemoryTrail(),  # type: ignore[arg-type]
        sidecars=Sidecars(workflows),
        store=StateStore("refund-desk", lambda keys: {}),
        role_file=RoleFile(config.role_file),
    )


class MemoryEpochs:
    """The record of activations."""

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []

    def all(self) -> list[Epoch]:
        return self.epochs


class MemoryTrail:
    """The audit log, which can be unavailable as a standby's is."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.unavailable: set[str] = set()

    def begin(self, deed: Deed) -> int:
        self._may("begin")
        self.entries.append(AuditEntry(**asdict(deed), id=len(self.entries) + 1, at=SINCE))
        return len(self.entries)

    def end(self, entry: int, outcome: str) -> None:
        self._may("end")
        self.entries[entry - 1] = replace(self.entries[entry - 1], outcome=outcome)

    def page(self, *, limit: int, before: int | None = None, subject: str | None = None) -> list[AuditEntry]:
        fits = [one for one in self.entries if subject in (None, one.subject) and (before is None or one.id < before)]
        return fits[::-1][:limit]

    def _may(self, what: str) -> None:
        if what in self.unavailable:
            raise IndexUnavailableError("the run index can't be used: ReadOnlySqlTransaction")


class ToldAgent:
    """A region agent: tells of an active region a and a standby b; a test changes what it says."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = {
            "region": "a",
            "role": "active",
            "epoch": 3,
            "since": SINCE.isoformat(),
            "open_runs": 2,
            "stuck": [],
            "early_release": {"enabled": True, "silent_seconds": 0.0, "decisions": {}, "last": None},
        }
        self.cluster: dict[str, Any] = {
            "nodes": [
                {"name": "a", "role": "leader", "state": "running", "timeline": 3},
                {"name": "b", "role": "sync_standby", "state": "streaming", "timeline": 3, "lag": 0},
            ],
            "lease": {"ttl": 20, "loop_wait": 1},
            "holder": "a",
        }
        self.asked: list[httpx.Request] = []
        self.silent = False
        self.refusal = ""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if self.silent:
            raise httpx.ConnectError("refused")
        if request.url.path == "/switchover":
            refused = httpx.Response(409, json={"detail": self.refusal})
            return refused if self.refusal else httpx.Response(202, json={"candidate": "b"})
        return httpx.Response(200, json={"/status": self.status, "/cluster": self.cluster}[request.url.path])


def console(region: Region, epochs: MemoryEpochs, agent: ToldAgent, **options: Any) -> Console:
    """A console over a region. Every look at the agent is a new one."""
    ticks = count()
    neighbour = Neighbour(
        "https://agent.example",
        token=TOKEN,
        operator_token=OPERATOR,
        transport=httpx.MockTransport(agent),
        clock=lambda: 10.0 * next(ticks),
    )
    return Console(
        region=region,
        sessions=Sessions({"viewer": VIEWER, "operator": OPERATOR}, lifetime=3600, idle=600, **options),
        epochs=epochs,  # type: ignore[arg-type]
        neighbour=neighbour,
        masks=Masks(["^ssn$"], ["ticket-secret-[0-9]+"]),
    )
