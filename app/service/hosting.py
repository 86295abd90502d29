"""What an agent must offer to be hosted by a region: names, types, and a way to build it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel
from serving import ConfigurationFile


class EffectsTarget(ConfigurationFile):
    """A service of the outside world, which an agent's tools act on or its model is."""

    url: str
    ca: Path
    token_file: Path


class Effects(EffectsTarget):
    """The same, with those on whose behalf effects are sent: region, epoch (fencing token) and worker.

    `model_provider` is where the model `refund_desk:provided` is asked.
    """

    region: str
    epoch: int
    worker: str
    model_provider: EffectsTarget | None = None


class HostedAgent(Protocol):
    """An agent with its typed input. Nothing heavy is imported before `build_agent`."""

    @property
    def name(self) -> str: ...
    @property
    def input_type(self) -> type[BaseModel]: ...
    def build_agent(self, *, model: str, model_latency_seconds: float, effects: Any) -> Any: ...
    def warm_up(self) -> None: ...
    def prompt(self, value: Any, /) -> str: ...
    def deps(self, value: Any, /) -> BaseModel: ...


def load_hosted(reference: str) -> HostedAgent:
    """The hosted agent that `package.module:attribute` names. Raises ValueError where there is none."""
    module, _, attribute = reference.partition(":")
    try:
        hosted = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"agent {reference!r} can't be loaded: {error}") from error
    return hosted
