"""An agent's output as JSON and back: by the type that it was, of those that the agent may return."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from typing import Any, cast

from pydantic import TypeAdapter
from pydantic_ai.output import NativeOutput, PromptedOutput, TextOutput, ToolOutput
from pydantic_core import to_jsonable_python


def output_types(spec: object) -> list[Any]:
    """The types that an output specification can give, in its order."""
    if isinstance(spec, ToolOutput):
        return output_types(cast("Any", spec).output)
    if isinstance(spec, NativeOutput | PromptedOutput):
        return output_types(cast("Any", spec).outputs)
    if isinstance(spec, TextOutput):
        return output_types(cast("Any", spec).output_function)
    if isinstance(spec, Sequence) and not isinstance(spec, str):
        return [one for item in cast("Sequence[Any]", spec) for one in output_types(item)]
    if typing.get_origin(spec) in (typing.Union, types.UnionType):
        return [one for item in typing.get_args(spec) for one in output_types(item)]
    if callable(spec) and not isinstance(spec, type) and typing.get_origin(spec) is None:
        return [typing.get_type_hints(spec).get("return", Any)]
    return [spec]


class OutputCodec:
    """Carries outputs of an agent whose `output_type` is `spec`."""

    def __init__(self, spec: object) -> None:
        self._adapters: list[Any] = [TypeAdapter(one) for one in output_types(spec)]

    def dump(self, output: object) -> dict[str, Any]:
        """`{"output": …, "output_type": n}`: the output as JSON, and which of the types took it."""
        for number, adapter in enumerate(self._adapters):
            try:
                valid = adapter.validate_python(output, strict=True)
            except ValueError:
                continue
            if valid == output:
                return {"output": adapter.dump_python(output, mode="json"), "output_type": number}
        return {"output": to_jsonable_python(output), "output_type": None}

    def load(self, wire: dict[str, Any]) -> Any:
        """The output again; as plain data where none of the types took it."""
        number = wire["output_type"]
        if number is None:
            return wire["output"]
        adapter: TypeAdapter[Any] = self._adapters[number]
        return adapter.validate_python(wire["output"])
