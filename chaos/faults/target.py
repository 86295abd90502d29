"""What an experiment may do to a deployment, whatever it runs on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from chaos.history import Fault


class NotInjectedError(Exception):
    """The fault could not be put in force; nothing can be concluded."""


class FaultTarget(Protocol):
    """Each method puts a fault in force and returns it with its evidence, or raises NotInjectedError.

    A fault with a `moment` strikes when that returns; it may name the workers in the middle of an effect.
    """

    def lose_region(self, region: str, moment: Callable[[], set[str]]) -> Fault: ...
    def return_region(self, region: str) -> None: ...
    def crash_worker(self, region: str, moment: Callable[[], set[str]]) -> Fault: ...
    def switch_over(self, to: str) -> Fault: ...
