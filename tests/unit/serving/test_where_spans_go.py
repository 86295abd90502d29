"""Spans of a process are in its file as soon as they have ended, or at an OTLP receiver."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from pydantic import ValidationError
from serving.exporting import Lines
from serving.tracing import Traces, link_to, provider_for, request_span

pytestmark = pytest.mark.unit

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CAME = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """An OTLP receiver, and what came to it."""
    came: list[tuple[dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append((dict(self.headers), self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", came
        server.shutdown()
        thread.join()


def spans(file: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [span for line in lines for span in line["resourceSpans"][0]["scopeSpans"][0]["spans"]]


def test_a_span_is_in_the_file_once_it_has_ended(tmp_path: Path) -> None:
    file = tmp_path / "data" / "spans.jsonl"
    tracer = provider_for(Traces(file=file), "worker", region="a", epoch=3).get_tracer("t")
    with tracer.start_as_current_span("outer") as outer, tracer.start_as_current_span("inner"):
        pass
    inner, written = spans(file)
    identifier = outer.get_span_context()
    assert written["traceId"] == f"{identifier.trace_id:032x}"
    assert inner["parentSpanId"] == written["spanId"] == f"{identifier.span_id:016x}"
    about = json.loads(file.read_text().splitlines()[0])["resourceSpans"][0]["resource"]["attributes"]
    assert {"key": "holdfast.epoch", "value": {"intValue": "3"}} in about
    assert {"key": "service.name", "value": {"stringValue": "worker"}} in about


def test_a_file_is_bounded_and_the_one_before_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "spans.jsonl"
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(Lines(file, most=1500)))
    for number in range(20):
        provider.get_tracer("t").start_span(f"span {number}").end()
    provider.shutdown()
    kept = spans(tmp_path / "spans.jsonl.1") + spans(file)
    assert [span["name"] for span in kept] == [f"span {number}" for number in range(20 - len(kept), 20)]
    assert max(one.stat().st_size for one in tmp_path.iterdir()) <= 1500
    assert len(list(tmp_path.iterdir())) == 2


def test_what_an_exception_says_is_not_in_a_span_and_its_type_is(tmp_path: Path) -> None:
    file = tmp_path / "spans.jsonl"
    tracer = provider_for(Traces(file=file), "worker").get_tracer("t")
    with pytest.raises(ValueError, match="secret"), tracer.start_as_current_span("a span"):
        raise ValueError("the secret")
    (span,) = spans(file)
    assert "secret" not in file.read_text()
    assert span["status"] == {"code": 2}
    (event,) = span["events"]
    assert {"key": "exception.type", "value": {"stringValue": "ValueError"}} in event["attributes"]


def test_spans_go_to_a_receiver_with_its_headers(
    receiver: tuple[str, list[tuple[dict[str, str], bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, came = receiver
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20token")
    provider = provider_for(Traces(endpoint=address), "api")
    provider.get_tracer("t").start_span("a span").end()
    assert provider.force_flush()
    provider.shutdown()
    ((headers, body),) = came
    assert headers["authorization"] == "Bearer token"
    sent = ExportTraceServiceRequest.FromString(body)
    assert sent.resource_spans[0].scope_spans[0].spans[0].name == "a span"


def test_a_request_goes_on_in_its_callers_trace(tmp_path: Path) -> None:
    file = tmp_path / "spans.jsonl"
    tracer = provider_for(Traces(file=file), "api").get_tracer("t")
    with request_span(tracer, "POST /v1/runs", CAME, run_id="run-1"):
        pass
    (span,) = spans(file)
    assert (span["traceId"], span["parentSpanId"]) == (TRACE, SPAN)
    assert span["attributes"] == [{"key": "holdfast.run_id", "value": {"stringValue": "run-1"}}]


def test_what_a_caller_does_not_sample_is_not_reported(tmp_path: Path) -> None:
    tracer = provider_for(Traces(file=tmp_path / "spans.jsonl"), "api").get_tracer("t")
    with request_span(tracer, "POST /v1/runs", {"traceparent": f"00-{TRACE}-{SPAN}-00"}):
        assert trace.get_current_span().get_span_context().trace_id == int(TRACE, 16)
    assert spans(tmp_path / "spans.jsonl") == []


def test_the_share_of_traces_may_be_none(tmp_path: Path) -> None:
    tracer = provider_for(Traces(file=tmp_path / "spans.jsonl", sampling=0), "api").get_tracer("t")
    with request_span(tracer, "POST /v1/runs", {}):
        pass
    assert spans(tmp_path / "spans.jsonl") == []


def test_a_link_leads_to_the_span_that_is_named() -> None:
    link = link_to(CAME["traceparent"], run_id="run-1")
    assert link is not None
    assert (link.context.trace_id, link.context.span_id) == (int(TRACE, 16), int(SPAN, 16))
    assert link.attributes == {"holdfast.run_id": "run-1"}


@pytest.mark.parametrize("named", ["", "None", f"00-{'0' * 32}-{SPAN}-01"])
def test_there_is_no_link_to_nothing(named: str) -> None:
    assert link_to(named) is None


@pytest.mark.parametrize("given", [{}, {"file": "spans.jsonl", "endpoint": "https://collector"}])
def test_spans_have_one_way_to_go(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="one of file and endpoint"):
        Traces.model_validate(given)
