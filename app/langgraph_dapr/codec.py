"""Carries a graph's values through a workflow's history: what is plain JSON stays readable there."""

from __future__ import annotations

import base64
import dataclasses
import typing
from collections.abc import Iterable
from typing import Any, cast

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

SERIALIZED, TUPLE = "$serialized", "$tuple"
_PLAIN = (str, int, float, bool, type(None))


class Codec:
    """Writes values as JSON; what JSON can't hold goes through LangGraph's serializer, as text."""

    def __init__(self, serde: SerializerProtocol) -> None:
        self.serde = serde

    def dump(self, value: Any) -> Any:
        """`value` as JSON. Raises TypeError where it would not come back as the type that it is."""
        kind = cast("type[Any]", type(value))
        if kind in _PLAIN:
            return value
        if kind is list:
            return [self.dump(one) for one in value]
        if kind is tuple:
            return {TUPLE: [self.dump(one) for one in value]}
        if kind is dict and not value.keys() & {SERIALIZED, TUPLE} and all(type(key) is str for key in value):
            return {key: self.dump(one) for key, one in value.items()}
        try:
            name, data = self.serde.dumps_typed(value)
            back = self.serde.loads_typed((name, data))
        except (TypeError, ValueError) as error:
            raise TypeError(f"a {kind.__name__} can't be carried between processes: {error}") from error
        if type(back) is not kind:
            raise TypeError(
                f"a {kind.__name__} can't be carried between processes: define the type at a module's top level, "
                "and name it in the graph's schema or in the serde of the graph's checkpointer"
            )
        unset: list[str] = []
        if isinstance(value, BaseModel) and isinstance(back, BaseModel):
            unset = sorted(back.model_fields_set - value.model_fields_set)
        return {SERIALIZED: [name, base64.b64encode(data).decode(), *unset]}

    def load(self, wire: Any) -> Any:
        """The value again."""
        if isinstance(wire, list):
            return [self.load(one) for one in cast("list[Any]", wire)]
        if not isinstance(wire, dict):
            return wire
        packed = cast("dict[str, Any]", wire)
        if SERIALIZED in packed:
            name, data, *unset = packed[SERIALIZED]
            value = self.serde.loads_typed((name, base64.b64decode(data)))
            if unset:  # LangGraph tells a field that a node left alone from one that it made None
                value.model_fields_set.difference_update(unset)
            return value
        if TUPLE in packed:
            return tuple(self.load(packed[TUPLE]))
        return {key: self.load(one) for key, one in packed.items()}


def serializer_for(schemas: Iterable[Any]) -> JsonPlusSerializer:
    """LangGraph's serializer, which brings back its own types and those of the schemas, and no other."""
    found: set[Any] = set()
    for schema in schemas:
        _collect(schema, found)
    return JsonPlusSerializer(allowed_msgpack_modules=found or None)


def _collect(annotation: Any, found: set[Any]) -> None:
    for argument in typing.get_args(annotation):
        _collect(argument, found)
    if not isinstance(annotation, type) or annotation in found or annotation.__module__ == "builtins":
        return
    kind = cast("type[Any]", annotation)
    found.add(kind)
    if dataclasses.is_dataclass(kind) or issubclass(kind, BaseModel) or typing.is_typeddict(kind):
        for hint in typing.get_type_hints(kind).values():
            _collect(hint, found)
