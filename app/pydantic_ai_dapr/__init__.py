"""PydanticAI agents as Dapr workflows: crash-safe, resumed after the last completed model request or tool call."""

from pydantic_ai_dapr.client import AgentRunClient
from pydantic_ai_dapr.context import current_operation
from pydantic_ai_dapr.durability import DaprDurability
from pydantic_ai_dapr.errors import OperationFailedError
from pydantic_ai_dapr.retry import Retry
from pydantic_ai_dapr.runner import DaprWorkflowAgentRunner, RunResult
from pydantic_ai_dapr.types import (
    RECOVER,
    Attempt,
    HistoryEvent,
    Operation,
    RunError,
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
    "DaprDurability",
    "DaprWorkflowAgentRunner",
    "HistoryEvent",
    "Operation",
    "OperationFailedError",
    "Retry",
    "RunError",
    "RunExistsError",
    "RunFailedError",
    "RunInput",
    "RunResult",
    "RunStatus",
    "WorkflowUnavailableError",
    "current_operation",
]
