"""Starts, follows and recovers runs of an agent; needs no code of the agent's."""

from __future__ import annotations

from contextlib import suppress

from pydantic_ai_dapr.taskhub import TaskHub
from pydantic_ai_dapr.types import RECOVER, HistoryEvent, RunExistsError, RunInput, RunStatus


def workflow_name(agent_name: str) -> str:
    """The name under which an agent is registered with the workflow engine."""
    return f"pydantic_ai_dapr.{agent_name}"


class AgentRunClient:
    """Every call ends within its timeout (seconds), or raises WorkflowUnavailableError: then its effect is unknown.

    The workflow's instance id is the run id. Safe to use from several threads.
    """

    def __init__(
        self,
        name: str,
        *,
        host: str = "127.0.0.1",
        port: int,
        api_token: str | None = None,
        timeout: float = 5.0,
    ) -> None:
        self._name, self._timeout = workflow_name(name), timeout
        self._hub = TaskHub(host, port, api_token)

    def start(self, run_id: str, run_input: RunInput, *, timeout: float | None = None) -> None:
        """Start a run; starting one that exists already changes nothing."""
        with suppress(RunExistsError):
            self._hub.start(run_id, self._name, run_input.model_dump(mode="json"), timeout or self._timeout)

    def status(self, run_id: str, *, payloads: bool = True) -> RunStatus | None:
        """The run's state, or None where no workflow of that id exists. Without `payloads` there is no output."""
        return self._hub.status(run_id, self._timeout, payloads=payloads)

    def recover(self, run_id: str, token: str | None = None) -> None:
        """Make the run issue its open operations again, after wake-ups were lost: once for each token.

        Without a token every call does so; an operation that was not lost is then executed beside itself.
        """
        self._hub.raise_event(run_id, RECOVER, token, self._timeout)

    def terminate(self, run_id: str) -> None:
        """End the run; what runs at this moment is not undone."""
        self._hub.terminate(run_id, self._timeout)

    def history(self, run_id: str) -> list[HistoryEvent]:
        """The run's events, in order, with inputs and results."""
        return self._hub.history(run_id, self._timeout)

    def close(self) -> None:
        """Close the connection."""
        self._hub.close()
