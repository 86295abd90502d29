"""How spans leave a process: without what exceptions say, and into a file as OTLP's JSON."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Status

_SAID = ("exception.message", "exception.stacktrace")
_IDENTIFIERS = ("traceId", "spanId", "parentSpanId")


class Discreet(SpanExporter):
    """Hands spans on without what exceptions say, which often quotes what they were given: their types stay."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([_discreet(span) for span in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()


class Lines(SpanExporter):
    """Appends a line of OTLP's JSON for each export; at `most` bytes the file becomes `.1`, and another begins.

    What was exported outlives the process, however it ends.
    """

    def __init__(self, path: Path, most: int = 64_000_000) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._most = path, most
        self._lock, self._file = threading.Lock(), path.open("ab", buffering=0)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        line = json.dumps(otlp_json(spans), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._file.tell() + len(line) > self._most:
                self._file.close()
                os.replace(self._path, self._path.with_name(f"{self._path.name}.1"))
                self._file = self._path.open("ab", buffering=0)
            self._file.write(line)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self._file.close()


def otlp_json(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """Spans as OTLP's JSON: Protobuf's, but for identifiers, which are hexadecimal."""
    return cast("dict[str, Any]", _in_hex(MessageToDict(encode_spans(spans), use_integers_for_enums=True)))


def _in_hex(value: Any) -> Any:
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {
            key: base64.b64decode(one).hex() if key in _IDENTIFIERS else _in_hex(one) for key, one in members.items()
        }
    return [_in_hex(one) for one in cast("list[Any]", value)] if isinstance(value, list) else value


def _discreet(span: ReadableSpan) -> ReadableSpan:
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=[_wordless(event) for event in span.events],
        links=span.links,
        kind=span.kind,
        instrumentation_scope=span.instrumentation_scope,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
    )


def _wordless(event: Event) -> Event:
    attributes = {key: value for key, value in (event.attributes or {}).items() if key not in _SAID}
    return Event(event.name, attributes, event.timestamp)
