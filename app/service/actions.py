"""What can be done to an accepted run. The API and the console do it by the same functions."""

from __future__ import annotations

import logging
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from run_index import IndexedRun
from serving import Problem

from service.answers import Run
from service.region import Region

log = logging.getLogger(__name__)


class RerunRequest(BaseModel):
    """A rerun. Its id is the client's, `<first run's id>~<number>`: the same rerun under it starts nothing twice.

    Without `from_step` everything is executed again, with it that operation and what follows. Operations keep their
    idempotency keys; those of a `fresh` rerun are new, and its effects are applied again.
    """

    model_config = ConfigDict(extra="forbid")

    run_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}~[1-9][0-9]{0,5}$")]
    from_step: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    fresh: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.fresh and self.from_step is not None:
            raise ValueError("a rerun from a step keeps the answers that belong to the old keys; leave fresh out")
        return self


def cancel(region: Region, run_id: str) -> Run:
    """End a run. Raises Problem where it has ended."""
    indexed = region.known(run_id)
    workflow = region.sidecars.ask(lambda client: client.status(run_id))
    if workflow is not None and workflow.is_terminal:
        raise Problem(409, "already ended", f"run {run_id} is {workflow.status}")
    if workflow is None:
        region.index.close_run(run_id, "terminated", "cancelled before it was scheduled")
    else:
        region.sidecars.ask(lambda client: client.terminate(run_id))
        workflow = region.sidecars.ask(lambda client: client.status(run_id))
    return Run.of(region.index.get(run_id) or indexed, workflow)


def run_again(region: Region, run_id: str, request: RerunRequest) -> tuple[Run, bool]:
    """The rerun, and whether it is new. Raises Problem where the run can't be run again like this."""
    first, named = (one.partition("~")[0] for one in (run_id, request.run_id))
    if named != first:
        detail = f"body.run_id: a rerun of {run_id} is called {first}~ with a number, such as {first}~2"
        raise Problem(422, "invalid request", detail)
    indexed = region.known(run_id)
    _demand_rerunnable(region, indexed, request.from_step)
    accepted = region.index.accept(
        request.run_id,
        indexed.input | {"trace": {}} | ({"run_id": request.run_id} if request.fresh else {}),
        agent=indexed.agent,
        rerun_of=run_id,
        rerun_step=request.from_step,
    )
    if accepted.outcome == "conflict":
        raise Problem(409, "conflict", f"run {request.run_id} exists and is another rerun; choose another number")
    if accepted.outcome == "created":
        log.info("run %s is run again as %s", run_id, request.model_dump_json())
        region.schedule(accepted.run)
    return Run.accepted(accepted.run), accepted.outcome == "created"


def next_rerun(region: Region, run_id: str) -> str:
    """An id for a rerun that none has: that of the first run with the next number."""
    first = run_id.partition("~")[0]
    page = region.index.page(limit=1000, id_contains=f"{first}~")
    numbers = [int(number) for root, _, number in (run.run_id.partition("~") for run in page) if root == first]
    return f"{first}~{max([1, *numbers]) + 1}"


def _demand_rerunnable(region: Region, run: IndexedRun, step: int | None) -> None:
    workflow = region.sidecars.ask(lambda client: client.status(run.run_id))
    if not (workflow.is_terminal if workflow else run.closed_at):
        status = workflow.status if workflow else run.status
        raise Problem(409, "not ended", f"run {run.run_id} is {status}; only a run that has ended can be run again")
    if step is not None:
        try:
            region.sidecars.ask(lambda client: client.task_of(run.run_id, step))
        except ValueError as error:
            raise Problem(422, "invalid request", f"body.from_step: {error}") from error
