"""Deploys: workers get other code, one after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

from chaos.faults.target import Ability, Moment, Place, Struck, Target


@dataclass(frozen=True)
class Deploy:
    """The workers of a region run other code until it is lifted; then they run the code that they had.

    `agent` is what they host, as `package.module:attribute`.
    """

    name: str
    does: str
    agent: str
    fits: bool
    """Whether the code does the same in the runs that are under way, so that it replays their histories."""
    in_doubt: bool = False
    needs: frozenset[Ability] = frozenset({"deploy"})

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        struck = target.deploy(place, self.agent)
        return replace(struck, evidence=struck.evidence | {"fits": self.fits})

    def lift(self, target: Target, place: Place) -> None:
        target.withdraw(place)
