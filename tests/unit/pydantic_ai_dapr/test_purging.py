"""Only a run that has ended is purged, and nothing of one that lives is touched."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic_ai_dapr import AgentRunClient, HistoryEvent, RunStatus
from pydantic_ai_dapr.types import Status

pytestmark = pytest.mark.unit


class Hub:
    """A sidecar with one run."""

    def __init__(self, status: Status | None) -> None:
        self.state, self.purged = status, list[str]()

    def status(self, run_id: str, timeout: float, *, payloads: bool = True) -> RunStatus | None:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        return self.state and RunStatus(run_id=run_id, status=self.state, created_at=at, updated_at=at)

    def history(self, run_id: str, timeout: float) -> list[HistoryEvent]:
        return []

    def purge(self, run_id: str, timeout: float) -> None:
        self.purged.append(run_id)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> AgentRunClient:
    client = AgentRunClient("desk", port=1)
    deleted: list[str] = []
    monkeypatch.setattr(client._journal, "delete", lambda run_id, events: deleted.append(run_id))
    monkeypatch.setattr(client, "deleted", deleted, raising=False)
    return client


@pytest.mark.parametrize("status", ["running", "pending", "suspended", "stalled", None])
def test_a_run_that_has_not_ended_keeps_all_that_it_wrote(client: AgentRunClient, status: Status | None) -> None:
    client.hub = hub = Hub(status)  # type: ignore[assignment]
    with pytest.raises(ValueError, match="only a run that has ended can be removed"):
        client.purge("run-1")
    assert (hub.purged, client.deleted) == ([], [])  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", ["completed", "failed", "terminated"])
def test_a_run_that_has_ended_is_removed_with_what_it_wrote(client: AgentRunClient, status: Status) -> None:
    client.hub = hub = Hub(status)  # type: ignore[assignment]
    client.purge("run-1")
    assert (hub.purged, client.deleted) == (["run-1"], ["run-1"])  # type: ignore[attr-defined]
