"""What crosses the library's boundary: runs, their state, operations and the attempts at them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic_ai.usage import RunUsage
from pydantic_ai.workspaces import WorkspaceRef

RECOVER = "recover"
"""The external event that makes a run issue its open operations again, after wake-ups were lost."""

Kind = Literal["model", "tool", "event", "capability", "toolset", "node"]
Outcome = Literal["ok", "error", "asleep"]
Status = Literal["pending", "running", "completed", "failed", "terminated", "suspended", "stalled"]
TERMINAL: frozenset[Status] = frozenset({"completed", "failed", "terminated"})


class RunInput(BaseModel):
    """What a run starts from: the workflow's input. `run_id` is logical: it stays when a run is started again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: str
    prompt: str | list[JsonValue] | None = None
    deps: JsonValue = None
    message_history: list[JsonValue] | None = None
    model: str | None = None
    instructions: str | None = None
    model_settings: dict[str, JsonValue] | None = None
    usage_limits: dict[str, JsonValue] | None = None
    deferred_tool_results: dict[str, JsonValue] | None = None
    conversation_id: str | None = None
    metadata: dict[str, JsonValue] | None = None
    usage: RunUsage | None = None
    retries: int | dict[str, int] | None = None
    workspace: Literal["new"] | WorkspaceRef | None = None
    timeout: float | None = None
    """Seconds of the workflow's time, for the whole run."""
    version: str = ""
    trace: dict[str, str] = Field(default_factory=dict)
    """W3C trace context of the caller, so that one trace spans the run wherever it is executed."""


class RunError(BaseModel):
    """Why a run or an operation failed: the exception's type and message."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    message: str


class RunStatus(BaseModel):
    """A run as the workflow engine knows it. Times are UTC."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    workflow: str = ""
    status: Status
    created_at: datetime
    updated_at: datetime
    output: JsonValue = None
    error: RunError | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether the run has ended: completed, failed or terminated."""
        return self.status in TERMINAL


class HistoryEvent(BaseModel):
    """One event of a workflow's history, in order of `sequence`, with input and result as they were recorded.

    `instance_id` is that of the child workflow that the event says was created, `due` when a timer is to fire; a
    wait for an event from outside, which the engine records as a timer, is not due.
    """

    model_config = ConfigDict(frozen=True)

    sequence: int
    type: str
    timestamp: datetime
    task_id: int | None = None
    name: str | None = None
    input: JsonValue = None
    result: JsonValue = None
    error: RunError | None = None
    instance_id: str | None = None
    due: datetime | None = None


class RunEvent(BaseModel):
    """Something a run did: an operation's attempt started, completed, failed or went to sleep, or the run ended."""

    model_config = ConfigDict(frozen=True)

    type: Literal[
        "operation_started",
        "operation_completed",
        "operation_failed",
        "operation_asleep",
        "run_completed",
        "run_failed",
        "run_terminated",
    ]
    run_id: str
    at: datetime
    ordinal: int | None = None
    kind: Kind | None = None
    name: str | None = None
    attempt: int | None = None
    output: JsonValue = None
    error: RunError | None = None


@dataclass(frozen=True)
class Operation:
    """The model request or tool call that is being executed.

    `key` is the idempotency key: it is the same at every attempt, on every worker and in every region.
    """

    run_id: str
    instance_id: str
    ordinal: int
    kind: Kind
    name: str
    attempt: int

    @property
    def key(self) -> str:
        """`<run id>:<ordinal>`."""
        return f"{self.run_id}:{self.ordinal}"


@dataclass(frozen=True)
class Attempt:
    """One real execution of an operation's body has started or ended. `at` is in Unix seconds.

    `joined` says that a second delivery of the same operation was answered by an execution that was running. One that
    ended `asleep` is followed by another attempt when its `durable_sleep` is over. Of a model request that has ended
    well, `model` answered, and `tokens` went in and came out.
    """

    phase: Literal["started", "ended"]
    run_id: str
    instance_id: str
    ordinal: int
    key: str
    kind: Kind
    name: str
    attempt: int
    at: float
    outcome: Outcome | None = None
    joined: bool = False
    model: str | None = None
    tokens: tuple[int, int] | None = None


Positive = Annotated[int, Field(ge=1)]


class WorkflowUnavailableError(Exception):
    """The sidecar did not answer within the deadline; whether it did what was asked is unknown."""


class HistoryTamperedError(WorkflowUnavailableError):
    """The sidecar does not load a workflow, because its history is not what was signed; no other is touched."""


class RunExistsError(Exception):
    """A workflow of that id exists already."""


class RunFailedError(Exception):
    """The run has ended without a result; `status` says how, and why."""

    def __init__(self, status: RunStatus) -> None:
        cause = f": {status.error.type}: {status.error.message}" if status.error else ""
        super().__init__(f"run {status.run_id} is {status.status}{cause}")
        self.status = status
