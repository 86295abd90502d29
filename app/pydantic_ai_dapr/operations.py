"""Performs one operation from inside a workflow: an activity, tried again where its error may pass or it slept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pydantic_ai_dapr.errors import ErrorValue, rebuild
from pydantic_ai_dapr.host import Envelope, envelope
from pydantic_ai_dapr.progress import PROGRESS
from pydantic_ai_dapr.retry import Retry
from pydantic_ai_dapr.run import LiveRun
from pydantic_ai_dapr.tracing import carried, remark
from pydantic_ai_dapr.types import Operation


async def perform(
    run: LiveRun,
    activity: str,
    operation: Operation,
    params: Callable[[], Envelope],
    retry: Retry,
    spent: Callable[[Any], None] | None = None,
) -> tuple[Any, Operation]:
    """The operation's result, and the attempt that gave it. Raises what the last attempt raised, as its own type.

    `operation.attempt` is the number of the first attempt. `params` is not asked during replay. `spent` is told of
    the usage that came about inside the operation.
    """
    trace, failures, progress = carried(), 0, Envelope()
    while True:

        def issue(operation: Operation = operation, progress: Envelope = progress) -> Envelope:
            return envelope(
                operation,
                run.offload(params() | progress),
                segment=run.segment,
                issued=run.issued,
                issued_at=run.now(),
                trace=trace,
            )

        answer: Envelope = run.resolve(await run.call(activity, issue, operation))
        if "sleep" not in answer:  # the next attempt says again what was said until here
            remark(answer.get("span", {}))
        if spent is not None and "usage" in answer:
            spent(answer["usage"])
        if "ok" in answer:
            return answer["ok"], operation
        progress = {PROGRESS: answer[PROGRESS]} if PROGRESS in answer else {}
        if "sleep" in answer:
            delay, failures = answer["sleep"], 0
        else:
            error, failures = ErrorValue.model_validate(answer["err"]), failures + 1
            delay = retry.delay(failures, error)
            if delay is None:
                raise rebuild(error)
        await asyncio.sleep(delay)
        operation = replace(operation, attempt=operation.attempt + 1)
