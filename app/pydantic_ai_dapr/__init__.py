"""PydanticAI agents as Dapr workflows: crash-safe, resumed after the last completed model request or tool call."""

from pydantic_ai_dapr.agents import DurableAgents
from pydantic_ai_dapr.approvals import WaitForApproval
from pydantic_ai_dapr.client import AgentRunClient, approval_event
from pydantic_ai_dapr.context import current_operation
from pydantic_ai_dapr.deploying import patched
from pydantic_ai_dapr.durability import DaprDurability
from pydantic_ai_dapr.errors import OperationFailedError, ToolDeniedError
from pydantic_ai_dapr.export import Export, ExportError, StateStore
from pydantic_ai_dapr.history import Step, steps
from pydantic_ai_dapr.hosting import start_together
from pydantic_ai_dapr.mcp_servers import MCPServerToolset
from pydantic_ai_dapr.payloads import PayloadLostError, PayloadTooLargeError
from pydantic_ai_dapr.progress import durable_sleep, durable_step
from pydantic_ai_dapr.remote_tools import Denial, RemoteToolset, declared
from pydantic_ai_dapr.replaying import Difference, ReplayReport, replay
from pydantic_ai_dapr.retry import Retry
from pydantic_ai_dapr.runner import DaprWorkflowAgentRunner, RunHandle, RunResult
from pydantic_ai_dapr.signatures import Verification, verify
from pydantic_ai_dapr.subagents import ChildAgent, ChildAgents
from pydantic_ai_dapr.tool_host import ToolHost, access_policy
from pydantic_ai_dapr.types import (
    RECOVER,
    Attempt,
    HistoryEvent,
    HistoryTamperedError,
    Operation,
    RunError,
    RunEvent,
    RunExistsError,
    RunFailedError,
    RunInput,
    RunStatus,
    WorkflowUnavailableError,
)

__all__ = [
    "RECOVER",
    "AgentRunClient",
    "Attempt",
    "ChildAgent",
    "ChildAgents",
    "DaprDurability",
    "DaprWorkflowAgentRunner",
    "Denial",
    "Difference",
    "DurableAgents",
    "Export",
    "ExportError",
    "HistoryEvent",
    "HistoryTamperedError",
    "MCPServerToolset",
    "Operation",
    "OperationFailedError",
    "PayloadLostError",
    "PayloadTooLargeError",
    "RemoteToolset",
    "ReplayReport",
    "Retry",
    "RunError",
    "RunEvent",
    "RunExistsError",
    "RunFailedError",
    "RunHandle",
    "RunInput",
    "RunResult",
    "RunStatus",
    "StateStore",
    "Step",
    "ToolDeniedError",
    "ToolHost",
    "Verification",
    "WaitForApproval",
    "WorkflowUnavailableError",
    "access_policy",
    "approval_event",
    "current_operation",
    "declared",
    "durable_sleep",
    "durable_step",
    "patched",
    "replay",
    "start_together",
    "steps",
    "verify",
]
