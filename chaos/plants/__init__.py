"""Bugs that the bench plants into a deployment of its own, to show that a checker catches them.

Each is a folder with a `sitecustomize.py`, which Python loads where PYTHONPATH names the folder. Product code carries
no switch for a bug.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Plant:
    """A bug, what it breaks, and the checker that is expected to catch it."""

    name: str
    breaks: str
    caught_by: str

    @property
    def folder(self) -> Path:
        """The folder for PYTHONPATH."""
        return Path(__file__).parent / self.name.replace("-", "_")


PLANTS = {
    plant.name: plant
    for plant in (
        Plant("recovery-sweep-off", "after a failover nobody wakes the open runs", "K1"),
        Plant("no-idempotency-key", "every attempt at an effect carries a key of its own", "K2"),
        Plant("effect-runs-twice", "a refund is sent twice, under two keys", "K2"),
    )
}
