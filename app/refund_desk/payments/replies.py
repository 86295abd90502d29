"""Whether the replies to effects arrive: the bench may have some of them lost, after the effect was applied."""

from __future__ import annotations

import threading
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Loss(BaseModel):
    """How many of the next replies are to be lost, and how many have been since the service began."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to_lose: Annotated[int, Field(ge=0, le=1_000_000)]
    lost: Annotated[int, Field(ge=0)] = 0


class Replies:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loss = Loss(to_lose=0)

    def lose(self) -> bool:
        """Whether the next reply is to be lost; it is counted."""
        with self._lock:
            if not self._loss.to_lose:
                return False
            self._loss = Loss(to_lose=self._loss.to_lose - 1, lost=self._loss.lost + 1)
            return True

    def set(self, to_lose: int) -> Loss:
        """Have so many of the next replies lost; none with 0."""
        with self._lock:
            self._loss = Loss(to_lose=to_lose, lost=self._loss.lost)
            return self._loss

    def seen(self) -> Loss:
        """What is to be lost, and what has been."""
        with self._lock:
            return self._loss
