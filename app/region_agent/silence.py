"""How long somebody has been silent, without a break that anybody saw."""

from __future__ import annotations

from dataclasses import dataclass

OBSERVER_GAP_SECONDS = 1.5
"""An observer that did not look for this long knows nothing of the time between: its silence begins anew."""


@dataclass
class Silence:
    """Fed with each look's outcome and the monotonic time at which it ended; one answer ends the silence."""

    since: float | None = None
    last_look: float | None = None

    def observe(self, answered: bool, now: float) -> None:
        """Note one look. After a gap between two looks (this process was frozen) the silence begins anew."""
        gap = self.last_look is not None and now - self.last_look > OBSERVER_GAP_SECONDS
        self.last_look = now
        if answered:
            self.since = None
        elif self.since is None or gap:
            self.since = now

    def seconds(self, now: float) -> float:
        """How long the silence has lasted; 0 where there is none, or where nobody has looked lately."""
        if self.since is None or self.last_look is None or now - self.last_look > OBSERVER_GAP_SECONDS:
            return 0.0
        return self.last_look - self.since
