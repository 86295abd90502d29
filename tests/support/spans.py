"""The spans of runs: recorded while they are made, and put together as a tree that two runs are compared by."""

from __future__ import annotations

import json
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from pydantic_ai import Agent, InstrumentationSettings
from pydantic_ai_dapr import current_operation

_NOISE = ("gen_ai.agent.call.id", "gen_ai.conversation.id", "time_to_first_chunk", "stacktrace")
"""What differs between any two runs: generated identifiers, durations, and where in its code an error came up."""

Execution = tuple[str, int]


@dataclass
class Recorder(SpanProcessor):
    """Keeps spans that have ended, with the execution in which they began: an operation's key and attempt."""

    ended: list[tuple[ReadableSpan, Execution | None]] = field(default_factory=list)
    _executions: dict[int, Execution | None] = field(default_factory=dict)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        try:
            operation = current_operation()
            execution = (operation.key, operation.attempt)
        except RuntimeError:
            execution = None
        self._executions[span.get_span_context().span_id] = execution

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append((span, self._executions.get(span.context.span_id)))

    def forget(self, executions: Collection[Execution]) -> None:
        """Take away the spans of executions that came to nothing: they did happen, and happen again."""
        self.ended = [(span, execution) for span, execution in self.ended if execution not in executions]

    def take(self) -> list[ReadableSpan]:
        """What has ended since this was asked last."""
        taken, self.ended, self._executions = [span for span, _ in self.ended], [], {}
        return taken


RECORDER = Recorder()
_provider = TracerProvider(shutdown_on_exit=False)
_provider.add_span_processor(RECORDER)
TRACER = _provider.get_tracer("tests")


@contextmanager
def recorded() -> Generator[Recorder]:
    """Every agent is instrumented in here."""
    RECORDER.take()
    Agent.instrument_all(InstrumentationSettings(tracer_provider=_provider))
    try:
        yield RECORDER
    finally:
        Agent.instrument_all(False)


@dataclass(frozen=True)
class Tree:
    """A span without its identifiers and times, with those below it."""

    name: str
    kind: str
    status: str
    attributes: dict[str, Any]
    events: list[Any]
    below: list[Tree]


def trees(spans: list[ReadableSpan]) -> list[Tree]:
    """The spans of one trace, from those that have no parent.

    A span may be reported again with its turn: under the same identifier, and as the same.
    """
    by_id: dict[int, ReadableSpan] = {}
    below: dict[int | None, list[ReadableSpan]] = {}
    for span in spans:
        known = by_id.setdefault(span.context.span_id, span)
        assert _content(known) == _content(span), "a span was reported twice, as something else"
        if known is span:
            below.setdefault(span.parent.span_id if span.parent else None, []).append(span)
    assert len({span.context.trace_id for span in spans}) <= 1, "one run has one trace"
    lost = [span.name for parent, children in below.items() for span in children if parent and parent not in by_id]
    assert not lost, f"nothing was reported above {lost}"

    def of(parent: int | None) -> list[Tree]:
        found = [Tree(*_content(span)[1:], below=of(span.context.span_id)) for span in below.get(parent, [])]
        return sorted(found, key=lambda tree: json.dumps([tree.name, tree.attributes], sort_keys=True))

    return of(None)


def _content(span: ReadableSpan) -> tuple[Any, ...]:
    events = [(event.name, _comparable(event.attributes)) for event in span.events]
    parent = span.parent.span_id if span.parent else None
    return parent, span.name, span.kind.name, span.status.status_code.name, _comparable(span.attributes), events


def _comparable(attributes: Any) -> dict[str, Any]:
    return {key: value for key, value in (attributes or {}).items() if not key.endswith(_NOISE)}
