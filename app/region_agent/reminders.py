"""Whether the scheduler still remembers what it was told since the region became active.

Wake-ups are in the scheduler's own store alone. A mark beside them, in the same folder, is gone when they are: then
every open run has to be woken again, once, as after a failover.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

MARK = "holdfast-mark"


@dataclass(frozen=True)
class Reminders:
    """One scheduler's store, marked for one life; and for which life the runs were woken, also by an earlier agent."""

    data_dir: Path
    swept_file: Path

    def begin(self, epoch: int) -> str:
        """Mark the store, where it is not; returns the name of its life, which no other one has."""
        mark = self.data_dir / MARK
        if self.are_lost():
            self.data_dir.mkdir(parents=True, exist_ok=True)
            mark.write_text(f"epoch {epoch} since {time.time_ns()}", encoding="utf-8")
        return mark.read_text(encoding="utf-8")

    def are_lost(self) -> bool:
        """Whether the store is not the one that was marked."""
        return not (self.data_dir / MARK).exists()

    def are_swept(self, life: str) -> bool:
        """Whether the runs were woken in this life: since then none was lost."""
        try:
            return self.swept_file.read_text(encoding="utf-8") == life
        except (FileNotFoundError, UnicodeDecodeError):
            return False

    def note_swept(self, life: str) -> None:
        """Remember that they were."""
        self.swept_file.write_text(life, encoding="utf-8")
