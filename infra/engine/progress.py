"""What a running change does to each part, told as it happens; and which part failed, why.

Made from Pulumi's event stream. A part is a resource that a provider manages; components and the stack itself
are not told of.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pulumi.automation import EngineEvent, OpType
from pulumi.automation.events import DiagnosticEvent, StepEventMetadata

__all__ = ["Failure", "Listener", "OnProgress", "Progress", "Status"]

Status = Literal["started", "says", "done", "failed"]

_TOLD = {
    OpType.CREATE: "create",
    OpType.UPDATE: "update",
    OpType.DELETE: "delete",
    OpType.REFRESH: "refresh",
    OpType.SAME: "same",
    OpType.CREATE_REPLACEMENT: "create",
    OpType.DELETE_REPLACED: "delete",
}
_COLOUR = re.compile(r"<\{%[^%]*%\}>|\x1b\[[0-9;]*m")
_GRPC = "Exception calling application: "
_NOISE = re.compile(r"(update|destroy|refresh|preview|deployment) failed$|using pulumi-[a-z-]+ from \$PATH at ")


@dataclass(frozen=True)
class Progress:
    """One thing that happened to one part."""

    part: str
    """The part's name, or empty for the deployment as a whole."""
    operation: str
    """create, update, delete, refresh or same; empty for the deployment as a whole."""
    status: Status
    seconds: float | None = None
    """How long the operation took, once it has ended."""
    message: str = ""


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Failure:
    """A part that could not be changed, with the cause as the part itself told it."""

    part: str
    cause: str


class Listener:
    """Turns engine events into `Progress`, and remembers what failed and what was changed."""

    def __init__(self, on_progress: OnProgress | None = None, *, only_looks: bool = False) -> None:
        self._on_progress = on_progress or (lambda _: None)
        self._only_looks = only_looks
        self._started: dict[tuple[str, str], float] = {}
        self._operation: dict[str, str] = {}
        self.failures: list[Failure] = []
        self.changes: dict[str, str] = {}
        """The last operation on each part, refreshing aside."""
        self.unhealthy: dict[str, str] = {}
        """The parts that a refresh found dead, with what is wrong."""

    def __call__(self, event: EngineEvent) -> None:
        if event.diagnostic_event is not None:
            self._diagnostic(event.diagnostic_event)
        elif event.resource_pre_event is not None:
            self._started_step(event.resource_pre_event.metadata)
        elif event.res_outputs_event is not None:
            self._ended(event.res_outputs_event.metadata, "done")
        elif event.res_op_failed_event is not None:
            self._ended(event.res_op_failed_event.metadata, "failed")

    def say(self, message: str) -> None:
        """Tells of the deployment as a whole."""
        self._on_progress(Progress("", "", "says", None, message))

    def _started_step(self, step: StepEventMetadata) -> None:
        part, operation = _part(step.urn, step.type), self._operation_of(step)
        if part is None or operation is None:
            return
        self._started[part, operation] = time.monotonic()
        self._operation[part] = operation
        if operation not in ("same", "refresh"):
            self._on_progress(Progress(part, operation, "started"))

    def _ended(self, step: StepEventMetadata, status: Status) -> None:
        part, operation = _part(step.urn, step.type), self._operation_of(step)
        if part is None or operation is None:
            return
        seconds = time.monotonic() - self._started.pop((part, operation), time.monotonic())
        message = ""
        if operation != "refresh":
            self.changes[part] = operation
        else:
            message = _wrong_with(step)
            if message:
                self.unhealthy[part] = message
        self._on_progress(Progress(part, operation, status, seconds, message))

    def _operation_of(self, step: StepEventMetadata) -> str | None:
        """Pulumi tells of a refresh by what it does to the state."""
        return "refresh" if self._only_looks else _TOLD.get(step.op)

    def _diagnostic(self, event: DiagnosticEvent) -> None:
        message = _COLOUR.sub("", event.message).strip()
        if not message or _NOISE.match(message):
            return
        part = _part(event.urn or "", _type(event.urn or "")) or ""
        if event.severity == "error":
            self.failures.append(Failure(part, message.removeprefix(_GRPC)))
        elif part or event.severity == "warning":
            self._on_progress(Progress(part, self._operation.get(part, ""), "says", None, message))


def _wrong_with(step: StepEventMetadata) -> str:
    if step.new is None:
        return "gone"
    outputs: Mapping[str, object] = step.new.outputs or {}
    return "" if outputs.get("healthy", True) else str(outputs.get("detail") or "not healthy")


def _type(urn: str) -> str:
    qualified = urn.split("::")[2] if urn.count("::") >= 3 else ""
    return qualified.split("$")[-1]


def _part(urn: str, kind: str) -> str | None:
    if ":dynamic/holdfast:" not in kind:
        return None
    return urn.split("::", 3)[3]
