"""Faults, named by what they do. Each target implements them behind one interface."""

from chaos.faults.target import FaultTarget, NotInjectedError

__all__ = ["FaultTarget", "NotInjectedError"]
