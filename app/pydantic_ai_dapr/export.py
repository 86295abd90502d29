"""A run's whole history as one file: readable, replayable without a sidecar, verifiable without trust in the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Literal, Self, cast

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from pydantic_ai_dapr.journal import whole_history
from pydantic_ai_dapr.payloads import KeyValues, Payloads
from pydantic_ai_dapr.recorded import readable
from pydantic_ai_dapr.types import HistoryEvent

FORMAT = "pydantic-ai-dapr/history"
VERSION = 1
MEANWHILE = 200
"""Events that a run may gain between two reads."""


class ExportError(ValueError):
    """A file is no export, or one that this version can't read."""


@dataclass(frozen=True)
class StateStore:
    """Where the sidecar keeps its workflows, for exports that can be verified: no API hands signatures out.

    `read(keys)` gives the values of those keys that exist. On PostgreSQL (component version v2):
    `lambda keys: dict(connection.execute("SELECT key, value FROM state WHERE key = ANY(%s)", [keys]).fetchall())`.
    """

    app_id: str
    read: Callable[[list[str]], Mapping[str, bytes]]
    namespace: str = "default"

    def stored(self, instance_id: str, events: int) -> Stored:
        """A workflow's events, of which there were so many a moment ago, with their signatures, from one read."""
        prefix = f"{self.app_id}||dapr.internal.{self.namespace}.{self.app_id}.workflow||{instance_id}||"
        kinds = ("history", "signature", "sigcert")
        rows = self.read([f"{prefix}{kind}-{number:06}" for kind in kinds for number in range(events + MEANWHILE)])

        def numbered(kind: str) -> list[bytes]:
            found = (rows.get(f"{prefix}{kind}-{number:06}") for number in count())
            return [bytes(value) for value in takewhile(lambda value: value is not None, found) if value is not None]

        return Stored(*map(numbered, kinds))


@dataclass(frozen=True)
class Stored:
    """A history byte by byte as it was signed, with its signatures and the certificates of those who signed."""

    events: list[bytes]
    signatures: list[bytes]
    certificates: list[bytes]


class Remembered(dict[str, bytes]):
    """Values in memory, with those of a state store that were read while this stood before it."""

    def __init__(self, values: Mapping[str, bytes] | None = None, source: KeyValues | None = None) -> None:
        super().__init__(values or {})
        self._source = source

    def write(self, key: str, value: bytes) -> None:
        self[key] = value

    def read(self, key: str) -> bytes | None:
        if key not in self and self._source is not None and (found := self._source.read(key)) is not None:
            self[key] = found
        return self.get(key)

    def delete(self, key: str) -> None:
        self.pop(key, None)


class Export(BaseModel):
    """A run's history. `events` is for readers; `recorded` (protobuf) is what the engine has, and replay goes by it.

    `signatures` and `certificates` are the engine's, as stored; empty where it doesn't sign, or nobody read its store.
    They are of the run's current segment; what is kept beside its history is in `payloads`, by key: large payloads,
    and the answers and history of earlier segments.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")

    format: Literal["pydantic-ai-dapr/history"] = FORMAT
    version: Literal[1] = VERSION
    instance_id: str
    workflow: str
    events: list[HistoryEvent]
    recorded: list[bytes]
    signatures: list[bytes] = []
    certificates: list[bytes] = []
    payloads: dict[str, bytes] = {}

    @classmethod
    def of(
        cls,
        instance_id: str,
        recorded: Sequence[bytes],
        signatures: Sequence[bytes] = (),
        certificates: Sequence[bytes] = (),
        payloads: Mapping[str, bytes] | None = None,
    ) -> Self:
        """An export of these events. Raises ExportError where they are no history."""
        try:
            events = readable(recorded)
        except ValueError as error:
            raise ExportError(f"run {instance_id} can't be exported: {error}") from error
        started = next((event for event in events if event.type == "executionStarted"), None)
        if started is None:
            raise ExportError(f"run {instance_id} can't be exported: its history has no beginning")
        return cls(
            instance_id=instance_id,
            workflow=started.name or "",
            events=events,
            recorded=list(recorded),
            signatures=list(signatures),
            certificates=list(certificates),
            payloads=dict(payloads or {}),
        )

    def beside(self) -> Payloads:
        """What is kept beside the history; nothing is written to the export."""
        return Payloads(Remembered(self.payloads))

    def history(self) -> list[HistoryEvent]:
        """The run's events since it began, with whole inputs and results. Raises PayloadLostError."""
        return whole_history(self.events, self.beside())

    def content(self) -> bytes:
        """What the file holds."""
        return self.model_dump_json(indent=1).encode()

    def save(self, path: Path) -> None:
        """Write the file."""
        path.write_bytes(self.content())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file. Raises ExportError, which says what is wrong with it, and OSError."""
        try:
            content = json.loads(text := path.read_bytes())
        except ValueError as error:
            raise ExportError(f"{path} is no export: {error}") from error
        head = cast("dict[str, JsonValue]", content) if isinstance(content, dict) else {}
        if head.get("format") != FORMAT:
            raise ExportError(f"{path} is no export of a run's history: its `format` isn't {FORMAT!r}")
        if head.get("version") != VERSION:
            raise ExportError(f"{path} has version {head.get('version')}; this library reads {VERSION}: upgrade it")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ExportError(f"{path} is no export: {where}: {first['msg']}") from error
