"""One trace for a run, whichever processes execute it, and each span in it under one identifier.

A span of the workflow's side that is open when its process dies is begun again by the replay in another one. So its
identifier and its beginning are the run's, as all that a workflow draws: what was reported under it before, in another
process, is still below it. A span that ended before is not reported again (`replay_scope`); one whose turn was lost and
is repeated is reported under the same identifier.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from copy import copy
from typing import Any

from opentelemetry import context, propagate, trace
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering, Instrumentation
from pydantic_ai.durable_exec import replay_scope
from pydantic_core import to_jsonable_python

from pydantic_ai_dapr.run import LiveRun, current_run

Carrier = dict[str, str]
"""W3C trace context, as it crosses to another process."""
Remarks = dict[str, Any]
"""What was said in another process about the span that it was carried: attributes, events, another name."""


IDENTIFIERS = "span-identifiers"
REQUEST_MODEL, REQUEST_PARAMETERS = "gen_ai.request.model", "model_request_parameters"
"""What a `FallbackModel` looks for in the open span, to say there which model answered."""


def carried() -> Carrier:
    """The trace context of what is done here, for where it goes on; empty where nothing is traced."""
    carrier: Carrier = {}
    span = trace.get_current_span()
    if span.get_span_context().is_valid:
        propagate.inject(carrier)
        attributes: dict[str, Any] = getattr(span, "attributes", None) or {}
        if REQUEST_MODEL in attributes:
            carrier[REQUEST_MODEL] = attributes[REQUEST_MODEL]
            if REQUEST_PARAMETERS in attributes:
                carrier[REQUEST_PARAMETERS] = "shown"
    return carrier


@contextmanager
def continued(carrier: Carrier) -> Generator[Remarks]:
    """What is done in here belongs to the trace that was `carried`; yields what is said about its open span."""
    received = propagate.extract(carrier)
    span = _SpanElsewhere(trace.get_current_span(received).get_span_context(), carrier)
    token = context.attach(trace.set_span_in_context(span, received) if carrier else received)
    try:
        yield span.remarks
    finally:
        context.detach(token)


def remark(remarks: Remarks) -> None:
    """Say about the span that is open here what was said elsewhere."""
    span = trace.get_current_span()
    span.set_attributes(remarks.get("attributes", {}))
    for name, attributes in remarks.get("events", ()):
        span.add_event(name, attributes)
    if "name" in remarks:
        span.update_name(remarks["name"])


class _SpanElsewhere(trace.Span):
    """A span that is open in another process, which is told what is said about it here."""

    def __init__(self, span_context: trace.SpanContext, attributes: dict[str, str]) -> None:
        self._context, self.attributes, self.remarks = span_context, attributes, Remarks()

    def get_span_context(self) -> trace.SpanContext:
        return self._context

    def is_recording(self) -> bool:
        return self._context.trace_flags.sampled

    def set_attribute(self, key: str, value: Any) -> None:
        self.set_attributes({key: value})

    def set_attributes(self, attributes: Any) -> None:
        self.remarks.setdefault("attributes", {}).update(to_jsonable_python(attributes))

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        self.remarks.setdefault("events", []).append([name, to_jsonable_python(attributes or {})])

    def record_exception(self, exception: BaseException, attributes: Any = None, *_: Any, **__: Any) -> None:
        about = {"exception.type": type(exception).__qualname__, "exception.message": str(exception)}
        self.add_event("exception", about | (attributes or {}))

    def update_name(self, name: str) -> None:
        self.remarks["name"] = name

    def set_status(self, status: Any, description: str | None = None) -> None:
        """The operation's end says it."""

    def end(self, end_time: int | None = None) -> None:
        """It ends where it began."""


class RunTracing(AbstractCapability[Any]):
    """Gives the spans of a durable run the run's identifiers and times, and reports none that a replay repeats."""

    _safe_at_runtime = True

    def get_ordering(self) -> CapabilityOrdering:
        return CapabilityOrdering(position="outermost", wraps=(Instrumentation,))

    async def wrap_run(self, ctx: Any, *, handler: Callable[[], Awaitable[Any]]) -> Any:
        run = current_run.get()
        if run is None:
            return await handler()
        for one in ctx.capabilities.values():
            if isinstance(one, Instrumentation):  # this run's own copy
                one.settings = copy(one.settings)
                one.settings.tracer = RunTracer(one.settings.tracer, run)
        with replay_scope(is_replaying=run.is_replaying):
            return await handler()


class RunTracer(trace.Tracer):
    """Begins spans with the run's identifiers, at the run's time."""

    def __init__(self, tracer: trace.Tracer, run: LiveRun) -> None:
        self._run = run
        self._tracer = _drawing(tracer, run.notes.setdefault(IDENTIFIERS, RunIdentifiers(run)))

    def start_span(self, name: str, *args: Any, **options: Any) -> trace.Span:
        return self._tracer.start_span(name, *args, **{"start_time": int(self._run.now() * 1e9)} | options)

    @contextmanager
    def start_as_current_span(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, name: str, *args: Any, end_on_exit: bool = True, **options: Any
    ) -> Generator[trace.Span]:
        with trace.use_span(self.start_span(name, *args, **options), end_on_exit=end_on_exit) as span:
            yield span


class RunIdentifiers:
    """What the SDK draws identifiers from: the same ones, in the same order, at each execution of the run's code."""

    def __init__(self, run: LiveRun) -> None:
        self._seed, self._drawn = f"{run.instance_id}|{run.segment}|{run.ordinal}", 0

    def generate_trace_id(self) -> int:
        return self._draw(16)

    def generate_span_id(self) -> int:
        return self._draw(8)

    def is_trace_id_random(self) -> bool:
        return True

    def _draw(self, size: int) -> int:
        self._drawn += 1
        return int.from_bytes(hashlib.sha256(f"{self._seed}|{self._drawn}".encode()).digest()[:size]) or 1


def _drawing(tracer: Any, identifiers: RunIdentifiers) -> Any:
    """A copy of the SDK's tracer, or of what stands before it, that draws from these; other tracers as they are."""
    tracer = getattr(tracer, "_tracer", tracer)  # the API's proxy, whose provider was set later
    if hasattr(tracer, "id_generator"):
        tracer = copy(tracer)
        tracer.id_generator = identifiers
    elif isinstance(behind := getattr(tracer, "tracer", None), trace.Tracer):  # Logfire's proxy
        tracer = copy(tracer)
        tracer.tracer = _drawing(behind, identifiers)
    return tracer
