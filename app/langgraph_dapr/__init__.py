"""LangGraph graphs as Dapr workflows: crash-safe, resumed after the last completed node."""

from langgraph_dapr.runner import DaprWorkflowGraphRunner
from langgraph_dapr.types import Checkpoint, GraphState, PendingInterrupt

__all__ = ["Checkpoint", "DaprWorkflowGraphRunner", "GraphState", "PendingInterrupt"]
