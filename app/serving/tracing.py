"""Where a process's spans go: to an OTLP address, or into a file. Nothing of the SDK is imported without either."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pydantic import Field, model_validator

from serving.config import ConfigurationFile

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

MOST_LINKS = 10_000
"""A failover is linked with every run that it woke."""
_context = TraceContextTextMapPropagator()


class Traces(ConfigurationFile):
    """Where spans go: a file, or the address of an OTLP receiver over HTTP; and of which share of all traces.

    What the address asks for is in OpenTelemetry's own variables, such as `OTEL_EXPORTER_OTLP_HEADERS` and
    `OTEL_EXPORTER_OTLP_CERTIFICATE`. A trace that a caller brings is sampled as the caller says.
    """

    file: Path | None = None
    endpoint: str | None = None
    sampling: Annotated[float, Field(ge=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.file is None) == (self.endpoint is None):
            raise ValueError("give one of file and endpoint: where spans go")
        return self


def provider_for(traces: Traces, service: str, **about: str | int) -> TracerProvider:
    """What is traced with this provider goes there, each span with what is known `about` the process.

    It is not made the process's own: Dapr's client would report each of its calls, and a region agent makes many.

    A file has a span when the span has ended, whatever becomes of the process; an address within a second. A receiver
    that doesn't answer holds nothing up, and spans for it are dropped once too many wait.
    """
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    from serving.exporting import Discreet, Lines

    provider = TracerProvider(
        resource=Resource({"service.name": service, **{f"holdfast.{key}": value for key, value in about.items()}}),
        sampler=ParentBasedTraceIdRatio(traces.sampling),
        span_limits=SpanLimits(max_links=MOST_LINKS),
    )
    if traces.file is not None:
        processor = SimpleSpanProcessor(Discreet(Lines(traces.file)))
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = Discreet(OTLPSpanExporter(endpoint=traces.endpoint))
        processor = BatchSpanProcessor(exporter, schedule_delay_millis=1000)
    provider.add_span_processor(processor)
    return provider


@contextmanager
def request_span(tracer: trace.Tracer, name: str, headers: Mapping[str, str], **about: str) -> Generator[None]:
    """A span for a request that is served in here, in the trace that its caller brought, else in one of its own."""
    came = _context.extract(headers)
    attributes = {f"holdfast.{key}": value for key, value in about.items()}
    with tracer.start_as_current_span(name, context=came, kind=trace.SpanKind.SERVER, attributes=attributes):
        yield


def link_to(traceparent: str, **about: str) -> trace.Link | None:
    """A link to the span that a W3C `traceparent` names; None where it names none."""
    found = trace.get_current_span(_context.extract({"traceparent": traceparent})).get_span_context()
    return trace.Link(found, {f"holdfast.{key}": value for key, value in about.items()}) if found.is_valid else None
