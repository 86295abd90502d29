"""Reaches the region's workflows through whichever of its sidecars answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from pydantic_ai_dapr import Export, HistoryEvent, RunInput, RunStatus, StateStore, WorkflowUnavailableError

Answer = TypeVar("Answer")


class Workflows(Protocol):
    """What the API asks of a sidecar; `pydantic_ai_dapr.AgentRunClient` is one."""

    def start(self, run_id: str, run_input: RunInput, *, timeout: float = 10.0) -> None: ...
    def status(self, run_id: str) -> RunStatus | None: ...
    def approve(
        self, run_id: str, tool_call_id: str, *, approved: bool, message: str | None, who: str | None
    ) -> None: ...
    def terminate(self, run_id: str) -> None: ...
    def history(self, run_id: str) -> list[HistoryEvent]: ...
    def export(self, run_id: str, store: StateStore | None = None) -> Export: ...
    def task_of(self, run_id: str, step: int) -> int: ...
    def rerun_from(self, run_id: str, step: int, new_id: str) -> None: ...


class Sidecars:
    """Asks the sidecar that answered last; when it doesn't answer, the next one. Safe to use from several threads."""

    def __init__(self, clients: Sequence[Workflows]) -> None:
        self._clients, self._lock, self._preferred = clients, threading.Lock(), 0

    def ask(self, question: Callable[[Workflows], Answer]) -> Answer:
        """The first answer. Raises WorkflowUnavailableError where no sidecar answers."""
        first = self._preferred
        failure: WorkflowUnavailableError | None = None
        for offset in range(len(self._clients)):
            number = (first + offset) % len(self._clients)
            try:
                answer = question(self._clients[number])
            except WorkflowUnavailableError as error:
                failure = error
                continue
            with self._lock:
                self._preferred = number
            return answer
        raise failure or WorkflowUnavailableError("the region has no sidecar")
