"""Faults of the lines between places: cut, silent, one-way, slow, narrow, reset, flapping."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Literal

from chaos.faults.processes import together
from chaos.faults.target import Ability, Disturbance, Line, Moment, Path, Place, Struck, Target, over

Shape = Literal["around", "from", "to", "between regions"]
"""All that the place sends and gets, what it sends, what it gets, or what the two regions say to each other."""

PLACES: tuple[Place, ...] = ("a", "b", "w")


def paths(shape: Shape, place: Place, line: Line | None = None) -> list[Path]:
    """The traffic that a fault of that shape is about."""
    if shape == "between regions":
        return [Path("a", "b", line), Path("b", "a", line)]
    others: list[Place] = [other for other in PLACES if other != place]
    sent, received = [Path(place, other, line) for other in others], [Path(other, place, line) for other in others]
    return {"around": sent + received, "from": sent, "to": received}[shape]


@dataclass(frozen=True)
class Links:
    """A disturbance of some shape, until it is lifted."""

    name: str
    does: str
    shape: Shape
    how: Disturbance
    line: Line | None = None
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"links"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        if self.in_doubt:
            moment()
        struck = target.disturb(paths(self.shape, place, self.line), self.how)
        severed = self.shape != "between regions" and self.how.kind in ("cut", "drop", "reset") and place != "w"
        return replace(struck, cut_off=[place] if severed else [])

    def lift(self, target: Target, place: Place) -> None:
        target.heal()


@dataclass(frozen=True)
class Flap:
    """Cut and healed again and again, each too short for a decision, all of it too long to be overlooked."""

    name: str = "flap"
    does: str = "The place is cut off for 2 s and back for 2 s, four times"
    times: int = 4
    seconds: float = 2.0
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"links"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        struck: list[Struck] = []
        for _ in range(self.times):
            began = time.monotonic()
            struck.append(target.disturb(paths("around", place), Disturbance("cut")))
            _until(began + self.seconds)
            target.heal()
            _until(began + 2 * self.seconds)
        whole = together(struck)
        shown = sum(one.proven for one in struck)
        cut_off: list[Place] = [place] if place != "w" else []
        return over(
            replace(whole, evidence={"cuts": len(struck), "proven": shown}, cut_off=cut_off, strikes=len(struck))
        )

    def lift(self, target: Target, place: Place) -> None:
        target.heal()


def _until(at: float) -> None:
    # The rhythm is the fault: this is no wait for something.
    time.sleep(max(0.0, at - time.monotonic()))
