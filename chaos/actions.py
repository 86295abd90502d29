"""What experiments do, as Chaos Toolkit calls it. Each returns what it did, for the journal."""

from __future__ import annotations

from pydantic import JsonValue

from chaos.history import Fault
from chaos.session import current

Told = dict[str, JsonValue]

__all__ = ["begin_load", "crash_worker", "end_load", "lose_active_region", "return_lost_region", "switch_over"]


def begin_load() -> Told:
    """Start agent runs from tickets, and go on starting them."""
    return {"in-flight": current().begin_load()}


def end_load() -> Told:
    """Start no further run."""
    current().end_load()
    return {}


def lose_active_region() -> Told:
    """SIGKILL every process of the active region at once."""
    return _told(current().lose_active())


def crash_worker() -> Told:
    """SIGKILL one worker of the active region, in the middle of an operation."""
    return _told(current().crash_worker())


def switch_over() -> Told:
    """Move the active role to the other region, as planned."""
    return _told(current().switch_over())


def return_lost_region() -> Told:
    """Start what was lost again. Harmless where nothing was lost, or where it runs."""
    current().return_lost()
    return {}


def _told(fault: Fault) -> Told:
    return {"fault": fault.name, "target": fault.target, "proven": fault.proven, "evidence": fault.evidence}
