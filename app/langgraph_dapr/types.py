"""What crosses the library's boundary: a run's input, its steps, and what it waits for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue
from pydantic_ai_dapr import RunStatus


class GraphInput(BaseModel):
    """What a run starts from: the workflow's input. Values are as `codec.Codec` writes them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: str
    input: JsonValue
    config: JsonValue
    context: JsonValue = None


@dataclass(frozen=True)
class PendingInterrupt:
    """What a run waits for: `resume` with an answer to `value`, since `at` (UTC).

    `node` asks it; at a breakpoint, `node` is where the run stands and `value` is None.
    """

    id: str
    node: str
    value: Any
    at: datetime


@dataclass(frozen=True)
class Checkpoint:
    """The graph's state after a step, and the nodes that come next. `step` -1 is the input, `at` is in UTC."""

    step: int
    values: dict[str, Any]
    next: tuple[str, ...]
    at: datetime


@dataclass(frozen=True)
class GraphState:
    """A run as it is: its status, its last checkpoint, and what it waits for."""

    status: RunStatus
    checkpoint: Checkpoint | None
    interrupts: tuple[PendingInterrupt, ...]

    @property
    def values(self) -> dict[str, Any]:
        """The state's values; empty before the first step."""
        return self.checkpoint.values if self.checkpoint else {}

    @property
    def next(self) -> tuple[str, ...]:
        """The nodes that are executed, or come next."""
        return self.checkpoint.next if self.checkpoint else ()
