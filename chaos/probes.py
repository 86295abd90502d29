"""What experiments look at, as Chaos Toolkit calls it. Each waits with a deadline instead of a pause."""

from __future__ import annotations

from chaos.session import MARGIN, current

__all__ = ["another_region_is_active", "deployment_is_healthy", "every_run_has_ended", "runs_are_in_flight"]


def deployment_is_healthy(seconds: float = 60.0) -> bool:
    """One region executes runs, and the other holds every acknowledged change."""
    return current().wait_healthy(seconds)


def runs_are_in_flight(at_least: int = 20) -> bool:
    """Enough runs are under way for the fault to meet them."""
    session = current()
    return session.hold_in_flight(min(at_least + MARGIN, session.runs))


def another_region_is_active(seconds: float = 60.0) -> str:
    """A region that accepts starts, after the fault."""
    return current().wait_active(seconds)


def every_run_has_ended() -> bool:
    """Every accepted run has reached a terminal state."""
    return current().wait_ended()
