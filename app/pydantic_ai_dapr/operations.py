"""Performs one operation from inside a workflow: an activity, tried again where its error may pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pydantic_ai_dapr.errors import ErrorValue, rebuild
from pydantic_ai_dapr.host import Envelope, envelope
from pydantic_ai_dapr.retry import Retry
from pydantic_ai_dapr.run import LiveRun
from pydantic_ai_dapr.tracing import carried, remark
from pydantic_ai_dapr.types import Operation


async def perform(
    run: LiveRun,
    activity: str,
    operation: Operation,
    params: Callable[[], object],
    retry: Retry,
    spent: Callable[[Any], None] | None = None,
) -> tuple[Any, Operation]:
    """The operation's result, and the attempt that gave it. Raises what the last attempt raised, as its own type.

    `operation.attempt` is the number of the first attempt. `params` is not asked during replay. `spent` is told of
    the usage that came about inside the operation.
    """
    first, trace = operation.attempt, carried()
    while True:

        def issue(operation: Operation = operation) -> Envelope:
            return envelope(
                operation,
                run.offload(params()),
                segment=run.segment,
                issued=run.issued,
                issued_at=run.now(),
                trace=trace,
            )

        answer: Envelope = run.resolve(await run.call(activity, issue, operation))
        remark(answer.get("span", {}))
        if "ok" in answer:
            if spent is not None and "usage" in answer:
                spent(answer["usage"])
            return answer["ok"], operation
        error = ErrorValue.model_validate(answer["err"])
        delay = retry.delay(operation.attempt - first + 1, error)
        if delay is None:
            raise rebuild(error)
        await asyncio.sleep(delay)
        operation = replace(operation, attempt=operation.attempt + 1)
