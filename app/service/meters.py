"""Counts what a worker executes: steps, how long they take, and the tokens that models were asked for."""

from __future__ import annotations

import threading

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic_ai_dapr import Attempt

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_NAMED = frozenset({"model", "node", "tool"})
"""Kinds of steps whose names are the code's own, and few."""


class StepMeters:
    """Hears of every attempt; `epoch` is the one that the worker serves, 0 while it waits for one.

    A step that was begun and never ends, as its worker leaves, is not counted. Safe to use from several threads.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry, self._lock = registry, threading.Lock()
        self._began: dict[tuple[str, int], float] = {}
        labels = ["kind", "name"]
        self._steps = Counter(
            "holdfast_steps", "Executions of a step that have ended", [*labels, "outcome"], registry=registry
        )
        self._seconds = Histogram(
            "holdfast_step_seconds", "How long they took", labels, buckets=_SECONDS, registry=registry
        )
        self._again = Counter("holdfast_steps_again", "Executions after a step's first one", labels, registry=registry)
        self._joined = Counter(
            "holdfast_deliveries_joined", "Second deliveries that joined a running execution", registry=registry
        )
        self._running = Gauge("holdfast_steps_running", "Executions under way", registry=registry)
        self._running.set_function(lambda: len(self._began))
        self._tokens = Counter("holdfast_tokens", "Tokens of model requests", ["model", "direction"], registry=registry)
        self.epoch = Gauge("holdfast_worker_epoch", "The epoch that the worker serves, 0 for none", registry=registry)

    def __call__(self, attempt: Attempt) -> None:
        """Count what is said of an attempt."""
        if attempt.joined:
            self._joined.inc()
            return
        labels = attempt.kind, attempt.name if attempt.kind in _NAMED else ""
        with self._lock:
            if attempt.phase == "started":
                self._began[attempt.key, attempt.attempt] = attempt.at
                began = attempt.at
            else:
                began = self._began.pop((attempt.key, attempt.attempt), attempt.at)
        if attempt.phase == "started":
            if attempt.attempt > 1:
                self._again.labels(*labels).inc()
            return
        self._steps.labels(*labels, attempt.outcome or "unknown").inc()
        self._seconds.labels(*labels).observe(max(0.0, attempt.at - began))
        if attempt.tokens is not None:
            for direction, count in zip(("input", "output"), attempt.tokens, strict=True):
                self._tokens.labels(attempt.model or "unknown", direction).inc(count)

    def text(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self._registry)
