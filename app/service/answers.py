"""What the API tells of runs."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, JsonValue
from pydantic_ai_dapr import RunStatus
from run_index import IndexedRun

KnownStatus = Literal["open", "accepted", "scheduled", "completed", "failed", "terminated"]
"""What the run index can be asked for; `open` is every run that has not ended."""


class Run(BaseModel):
    """A run as the region knows it. `rerun_of` is the run that it runs again, whole or from operation `from_step`."""

    run_id: str
    agent: str
    status: str
    accepted_at: datetime
    updated_at: datetime | None = None
    output: JsonValue = None
    error: str | None = None
    rerun_of: str | None = None
    from_step: int | None = None

    @classmethod
    def of(cls, run: IndexedRun | None, workflow: RunStatus | None) -> Run:
        """What is known of a run that has no workflow yet, of one that has, or of a run's own child workflow."""
        if workflow is None:
            assert run is not None
            return cls.accepted(run)
        return cls(
            run_id=workflow.run_id,
            agent=run.agent if run else workflow.workflow.rpartition(".")[2],
            status=workflow.status,
            accepted_at=run.accepted_at if run else workflow.created_at,
            updated_at=workflow.updated_at,
            output=workflow.output,
            error=f"{workflow.error.type}: {workflow.error.message}" if workflow.error else None,
            rerun_of=run.rerun_of if run else None,
            from_step=run.rerun_step if run else None,
        )

    @classmethod
    def accepted(cls, run: IndexedRun) -> Run:
        """What the index knows of a run."""
        return cls(
            run_id=run.run_id,
            agent=run.agent,
            status=run.status,
            accepted_at=run.accepted_at,
            updated_at=run.closed_at,
            error=run.error,
            rerun_of=run.rerun_of,
            from_step=run.rerun_step,
        )


class Runs(BaseModel):
    """A page of runs, newest first; `next` is the cursor of the page after it."""

    runs: list[Run]
    next: str | None
