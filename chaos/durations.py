"""How long experiments last on this machine, remembered in the state directory for the next estimate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from chaos.experiment import Experiment

FILE, KEPT = "chaos-durations.json", 5


class Durations:
    """The last few durations of each experiment. A file that is damaged is as good as none."""

    def __init__(self, state: Path) -> None:
        self._path = state / FILE
        try:
            read = json.loads(self._path.read_bytes())
            self._seconds = {str(name): [float(one) for one in values] for name, values in read.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            self._seconds = dict[str, list[float]]()

    def of(self, experiment: Experiment) -> float:
        """About how long it lasts, in seconds: the median of what was seen, else what it says of itself."""
        seen = sorted(self._seconds.get(experiment.name, ()))
        return seen[len(seen) // 2] if seen else experiment.seconds

    def left(self, experiments: Sequence[Experiment]) -> float:
        """About how long these last, one after the other."""
        return sum(map(self.of, experiments))

    def note(self, name: str, seconds: float) -> None:
        """Remember one duration."""
        self._seconds[name] = [*self._seconds.get(name, ()), round(seconds, 1)][-KEPT:]
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps(self._seconds, indent=1), encoding="utf-8")
        draft.replace(self._path)
