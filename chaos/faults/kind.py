"""What a fault is: a name, a sentence, what it takes, and how it is put in force and taken back."""

from __future__ import annotations

from typing import Protocol

from chaos.faults.target import Ability, Moment, Place, Struck, Target


class FaultKind(Protocol):
    """One fault of the catalogue. It holds no state: what is in force is the target's."""

    @property
    def name(self) -> str:
        """What experiments call it."""
        ...

    @property
    def does(self) -> str:
        """One sentence for the catalogue."""
        ...

    @property
    def needs(self) -> frozenset[Ability]:
        """What a target has to be able to do."""
        ...

    @property
    def in_doubt(self) -> bool:
        """Whether it strikes while an effect is applied and its caller doesn't know yet."""
        ...

    def inject(self, target: Target, place: Place, moment: Moment) -> Struck:
        """Put it in force at `place`, and show that it is. Raises NotInjectedError."""
        ...

    def lift(self, target: Target, place: Place) -> None:
        """Take it back, and make sure of it; harmless where it is not in force. Raises NotLiftedError."""
        ...
