"""What experiments do, as Chaos Toolkit calls it. Each returns what it did, for the journal."""

from __future__ import annotations

import time

from pydantic import JsonValue

from chaos.session import current

Told = dict[str, JsonValue]

__all__ = ["begin_load", "end_load", "inject", "lift", "start_runs"]


def begin_load() -> Told:
    """Start agent runs from tickets, and go on starting them."""
    return {"in-flight": current().begin_load()}


def start_runs(up_to: int, open_at_most: int | None = None, seconds: float = 300.0) -> Told:
    """Start as many runs as are missing of so many that were accepted since the load began: all at once, or never more
    than are open then. Raises TimeoutError where the open ones don't end in that time."""
    session = current()
    workload = session.workload
    assert workload is not None, "there is no load yet: begin it first"
    missing = max(0, up_to - len(workload.accepted_ids()))
    if open_at_most is None:
        workload.more(missing)
    else:
        at_most, until = open_at_most, time.monotonic() + seconds
        while missing:
            what = f"fewer than {at_most} runs to be open, {missing} are to be started yet"
            room = session.wait(what, lambda: max(0, at_most - len(session.open_runs())), until - time.monotonic())
            workload.more(min(room, missing))
            missing -= min(room, missing)
    return {"accepted": len(workload.accepted_ids())}


def end_load() -> Told:
    """Start no further run."""
    current().end_load()
    return {}


def inject(fault: str, where: str = "active") -> Told:
    """Put a fault of the catalogue in force at `active`, `standby`, `a`, `b` or `witness`.

    `struck` is where the last fault struck, `spared` the other region.
    """
    done = current().inject(fault, where)
    return {"fault": done.name, "target": done.target, "proven": done.proven, "evidence": done.evidence}


def lift(fault: str | None = None) -> Told:
    """Take a fault back, or all that are in force, and make sure of it. Harmless where none is."""
    lifted: list[JsonValue] = [*current().lift(fault)]
    return {"lifted": lifted}
