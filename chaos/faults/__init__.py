"""Faults, named by what they do. Each target offers primitives behind one interface."""

from chaos.faults.catalogue import FAULTS, abilities, fault_named
from chaos.faults.kind import FaultKind
from chaos.faults.target import Ability, NotInjectedError, NotLiftedError, Place, Target

__all__ = [
    "FAULTS",
    "Ability",
    "FaultKind",
    "NotInjectedError",
    "NotLiftedError",
    "Place",
    "Target",
    "abilities",
    "fault_named",
]
