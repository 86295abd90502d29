"""Where a worker can die in the life of one operation, in order; the grid lets one die at each.

They are planted from outside, by the `sitecustomize.py` beside this file: product code has no switch for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
PLAN, CRASHES = "crash-plan.json", "crashes.jsonl"
"""In the folder in which workers run: which run dies where, and the deaths."""
EFFECTS = frozenset({"request_approval", "add_note", "issue_refund", "notify_customer"})
"""The tools that change the world."""


@dataclass(frozen=True)
class Point:
    """A moment in the life of an operation."""

    name: str
    when: str
    effects_only: bool = False


POINTS = (
    Point("turn-decided", "the run has decided on it, and the turn is not sent"),
    Point("turn-sent", "the turn that asks for it is sent, and perhaps not saved"),
    Point("delivered", "it is delivered, and not begun"),
    Point("begun", "it is begun, and nothing is done"),
    Point("before-effect", "its effect is about to be made", effects_only=True),
    Point("after-effect", "its effect is made, and nobody in the worker has taken note", effects_only=True),
    Point("ended", "it has ended, and its answer is in the worker alone"),
    Point("answered", "its turn is saved, and its answer is about to be sent"),
    Point("reported", "its answer is sent, and perhaps not saved"),
)
