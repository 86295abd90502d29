"""Payloads that are too large for a workflow's history, and the journal of a long run, kept in the state store.

A workflow's whole history crosses the sidecar's connection at each turn and must stay below its message limit
(Dapr's default: 4 MiB, where the workflow stalls). What is large is therefore kept beside it, compressed and under a
key that contains its digest: it is never overwritten, and what a signed history refers to can't be changed unseen.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Any, Protocol, cast

from pydantic import BaseModel, ConfigDict, ValidationError

REFERENCE = "$payload"
INLINE_BYTES = 128 * 1024
"""A larger payload goes to the state store."""
MAX_BYTES = 64 * 1024 * 1024
PART_BYTES = 2 * 1024 * 1024


class PayloadTooLargeError(Exception):
    """A payload is larger than what can be kept at all: 64 MiB."""


class PayloadLostError(Exception):
    """The state store has lost or changed what a run refers to."""


class Reference(BaseModel):
    """Where a payload is kept: `parts` values under `key`, `size` bytes of JSON with this SHA-256 in all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    sha256: str
    size: int
    parts: int


class KeyValues(Protocol):
    """The app's own values in the state store. Raises WorkflowUnavailableError where it doesn't answer."""

    def write(self, key: str, value: bytes) -> None: ...
    def read(self, key: str) -> bytes | None: ...
    def delete(self, key: str) -> None: ...


class Payloads:
    """Keeps payloads beside the history of the run that they belong to."""

    def __init__(self, values: KeyValues, inline_bytes: int = INLINE_BYTES) -> None:
        self._values, self._inline = values, inline_bytes

    def offload(self, instance_id: str, value: Any) -> Any:
        """`value` itself where it is small, else a reference to it. Raises PayloadTooLargeError."""
        data = _encoded(value)
        return value if len(data) <= self._inline else {REFERENCE: self._put(instance_id, data).model_dump()}

    def put(self, instance_id: str, value: Any) -> Reference:
        """Keep `value`, whatever its size."""
        return self._put(instance_id, _encoded(value))

    def resolve(self, value: Any) -> Any:
        """What `offload` was given. Raises PayloadLostError."""
        reference = reference_of(value)
        return value if reference is None else self.get(reference)

    def get(self, reference: Reference) -> Any:
        """The value of a reference. Raises PayloadLostError."""
        parts = [self._values.read(key) for key in _keys(reference)]
        try:
            data = zlib.decompress(b"".join(cast("list[bytes]", parts)))
        except (TypeError, zlib.error) as error:
            raise PayloadLostError(f"the state store has no whole {reference.key}: {error}") from error
        if hashlib.sha256(data).hexdigest() != reference.sha256:
            raise PayloadLostError(f"{reference.key} in the state store is not what the run wrote")
        return json.loads(data)

    def delete(self, reference: Reference) -> None:
        """Remove the value of a reference."""
        for key in _keys(reference):
            self._values.delete(key)

    def _put(self, instance_id: str, data: bytes) -> Reference:
        if len(data) > MAX_BYTES:
            raise PayloadTooLargeError(
                f"a payload of run {instance_id} has {len(data)} bytes, more than {MAX_BYTES}; "
                "keep such data in a store of your own and pass a reference to it"
            )
        digest, packed = hashlib.sha256(data).hexdigest(), zlib.compress(data, 1)
        parts = -(-len(packed) // PART_BYTES)
        reference = Reference(key=f"{instance_id}|{digest[:32]}", sha256=digest, size=len(data), parts=parts)
        for number, key in enumerate(_keys(reference)):
            self._values.write(key, packed[number * PART_BYTES : (number + 1) * PART_BYTES])
        return reference


def reference_of(value: Any) -> Reference | None:
    """The reference that stands in place of a payload, if one does."""
    if not isinstance(value, dict) or cast("dict[str, Any]", value).keys() != {REFERENCE}:
        return None
    try:
        return Reference.model_validate(value[REFERENCE])
    except ValidationError:
        return None


def _encoded(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _keys(reference: Reference) -> list[str]:
    return [f"pydantic_ai_dapr|{reference.key}|{number}" for number in range(reference.parts)]
