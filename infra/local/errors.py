"""Every failure of a part is a `PartError`: what failed, what was last seen of it, and what to do next."""

from __future__ import annotations

__all__ = ["PartError"]


class PartError(RuntimeError):
    """A part could not be brought up, looked at or taken down; the message names the next action."""
