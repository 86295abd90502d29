"""Puts the messages of a model request together again: from memory where this process has them, else from history."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter

Wire = dict[str, Any]
Inputs = Mapping[int, Wire]
"""The inputs of a run's model requests, by ordinal."""


@dataclass(frozen=True)
class Request:
    """A model request's whole messages, and what it offered."""

    ordinal: int
    messages: list[ModelMessage]
    parameters: Wire


class Conversations:
    """The last model request of at most `limit` runs. Safe to use from several threads.

    `inputs_of(instance_id)` reads the inputs of a run's model requests from its history; it is asked only when
    memory doesn't have what a request refers to: after a crash, a failover, or on another worker.
    """

    def __init__(self, limit: int, inputs_of: Callable[[str], Awaitable[Inputs]]) -> None:
        self._limit, self._inputs_of = limit, inputs_of
        self._last, self._lock = OrderedDict[str, Request](), threading.Lock()

    async def expand(self, instance_id: str, ordinal: int, wire: Wire) -> Wire:
        """`wire` with `messages` and `parameters` whole. Raises LookupError where the history lacks a request."""
        base: Request | None = None
        if wire["after"] is not None:
            with self._lock:
                base = self._last.get(instance_id)
            if base is None or base.ordinal != wire["after"]:
                base = rebuild(wire["after"], await self._inputs_of(instance_id))
        request = _joined(ordinal, wire, base)
        with self._lock:
            self._last[instance_id] = request
            self._last.move_to_end(instance_id)
            while len(self._last) > self._limit:
                self._last.popitem(last=False)
        return wire | {"messages": list(request.messages), "parameters": request.parameters}


def rebuild(ordinal: int, inputs: Inputs) -> Request:
    """The request of that ordinal, from the chain of inputs that it refers to."""
    chain: list[tuple[int, Wire]] = []
    wanted: int | None = ordinal
    while wanted is not None:
        if wanted not in inputs:
            raise LookupError(f"the history has no model request {wanted}, which a later one refers to")
        chain.append((wanted, inputs[wanted]))
        wanted = inputs[wanted]["after"]
    request: Request | None = None
    for number, wire in reversed(chain):
        request = _joined(number, wire, request)
    assert request is not None
    return request


def _joined(ordinal: int, wire: Wire, base: Request | None) -> Request:
    tail = ModelMessagesTypeAdapter.validate_python(wire["tail"])
    messages = (base.messages[: wire["keep"]] if base else []) + tail
    parameters = wire.get("parameters", base.parameters if base else {})
    return Request(ordinal, messages, parameters)
