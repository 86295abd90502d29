"""Where a process's spans go: to an OTLP address, or as OTLP's JSON into a file of bounded size.

What prompts, answers, arguments and results say is never in a span. Nothing of the SDK is imported where nothing is
traced.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, cast

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pydantic import Field, model_validator

from serving.config import ConfigurationFile

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExportResult

MOST_BYTES = 64_000_000
MOST_LINKS = 10_000
"""A failover is linked with every run that it woke."""
_IDENTIFIERS = ("traceId", "spanId", "parentSpanId")
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


def trace_to(traces: Traces, service: str, **about: str | int) -> TracerProvider:
    """Spans of this process go there from now on, each with what is known `about` the process.

    A file has a span when the span has ended, whatever becomes of the process; an address within a second. A receiver
    that doesn't answer holds nothing up, and spans for it are dropped once too many wait.
    """
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    provider = TracerProvider(
        resource=Resource({"service.name": service, **{f"holdfast.{key}": value for key, value in about.items()}}),
        sampler=ParentBasedTraceIdRatio(traces.sampling),
        span_limits=SpanLimits(max_links=MOST_LINKS),
    )
    if traces.file is not None:
        processor = SimpleSpanProcessor(_lines(traces.file))
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=traces.endpoint), schedule_delay_millis=1000)
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    return provider


@contextmanager
def request_span(name: str, headers: Mapping[str, str], **about: str) -> Generator[None]:
    """A span for a request that is served in here, in the trace that its caller brought, else in one of its own."""
    came = _context.extract(headers)
    attributes = {f"holdfast.{key}": value for key, value in about.items()}
    tracer = trace.get_tracer("holdfast")
    with tracer.start_as_current_span(name, context=came, kind=trace.SpanKind.SERVER, attributes=attributes):
        yield


def link_to(traceparent: str, **about: str) -> trace.Link | None:
    """A link to the span that a W3C `traceparent` names; None where it names none."""
    found = trace.get_current_span(_context.extract({"traceparent": traceparent})).get_span_context()
    return trace.Link(found, {f"holdfast.{key}": value for key, value in about.items()}) if found.is_valid else None


def otlp_json(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """Spans as OTLP's JSON: Protobuf's, but for identifiers, which are hexadecimal."""
    from google.protobuf.json_format import MessageToDict
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    return cast("dict[str, Any]", _in_hex(MessageToDict(encode_spans(spans), use_integers_for_enums=True)))


def _in_hex(value: Any) -> Any:
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {
            key: base64.b64decode(one).hex() if key in _IDENTIFIERS else _in_hex(one) for key, one in members.items()
        }
    return [_in_hex(one) for one in cast("list[Any]", value)] if isinstance(value, list) else value


def _lines(path: Path, most: int = MOST_BYTES) -> Any:
    """Appends a line of OTLP's JSON for each export, and begins anew at `most` bytes: the file before is kept as `.1`."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Lines(SpanExporter):
        def __init__(self) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock, self._file = threading.Lock(), path.open("ab", buffering=0)

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            line = json.dumps(otlp_json(spans), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            with self._lock:
                if self._file.tell() + len(line) > most:
                    self._file.close()
                    os.replace(path, path.with_name(f"{path.name}.1"))
                    self._file = path.open("ab", buffering=0)
                self._file.write(line)
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None:
            self._file.close()

    return Lines()
