"""What experiments look at, as Chaos Toolkit calls it. Each waits with a deadline instead of a pause.

Those that look at what a fault does to the deployment are claims: they are recorded, and the verdict counts them.
"""

from __future__ import annotations

import time

from holdfast.client import NotAnsweredError

from chaos.session import MARGIN, Session, current

__all__ = [
    "a_region_is_active",
    "another_region_is_active",
    "deployment_is_healthy",
    "every_run_has_ended",
    "no_other_region_takes_over",
    "returned_region_is_fenced",
    "runs_are_in_flight",
    "runs_are_stalled",
    "runs_go_on",
    "same_region_is_active",
    "starts_are_accepted",
    "starts_are_refused",
]

POLL_SECONDS = 0.1


def deployment_is_healthy(seconds: float = 60.0) -> bool:
    """One region executes runs, and the other holds every acknowledged change; before a fault also: it is not swamped
    by runs of before."""
    session = current()
    if not session.injected:
        return session.wait_healthy(seconds) and session.wait_idle(seconds)
    return session.claim("both regions are healthy again", lambda: "" if session.wait_healthy(seconds) else "not so")


def runs_are_in_flight(at_least: int = 20) -> bool:
    """Enough runs are under way for the fault to meet them."""
    session = current()
    return session.hold_in_flight(min(at_least + MARGIN, session.runs))


def a_region_is_active(seconds: float = 60.0) -> bool:
    """Some region accepts starts."""
    session = current()
    return session.claim("a region is active", lambda: "" if session.wait_active(seconds) else "none")


def another_region_is_active(seconds: float = 60.0) -> bool:
    """The other region has become active: not the one that was when the last fault struck."""
    session = current()
    before = session.active_before

    def moved() -> str:
        session.wait(
            f"a region other than {before} to be active",
            lambda: (active := session.client.active_region()) is not None and active != before,
            seconds,
        )
        return ""

    return session.claim("the other region takes over", moved)


def same_region_is_active(seconds: float = 10.0) -> bool:
    """For so long no other region has become active, and at the end the same one is."""
    session = current()
    before = session.active_before

    def stays() -> str:
        if wrong := _somebody_else(session, before, seconds):
            return wrong
        active = session.wait_active(30.0)
        return "" if active == before else f"region {active} has become active instead of {before}"

    return session.claim("the active region stays", stays)


def no_other_region_takes_over(seconds: float = 10.0) -> bool:
    """For so long no other region becomes active, whether the one that was is so still or not."""
    session = current()
    before = session.active_before

    return session.claim("no other region takes over", lambda: _somebody_else(session, before, seconds))


def starts_are_accepted(seconds: float = 30.0) -> bool:
    """A start that is made from now on is acknowledged."""
    session, since = current(), time.time()

    def accepted() -> str:
        session.wait("a start to be accepted", lambda: session.accepted_since(since), seconds)
        return ""

    return session.claim("starts are accepted", accepted)


def starts_are_refused(seconds: float = 8.0) -> bool:
    """For so long starts are tried, and none is acknowledged: nobody promises what nobody can keep."""
    session, since = current(), time.time()

    def refused() -> str:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if session.accepted_since(since):
                return "a start was acknowledged"
            time.sleep(POLL_SECONDS)
        session.wait("a start to be tried", lambda: session.tried_since(since), seconds)
        return ""

    return session.claim("no start is acknowledged", refused)


def runs_go_on(seconds: float = 30.0) -> bool:
    """A worker ends an operation that it begins from now on."""
    session, since = current(), time.time()

    def go_on() -> str:
        session.wait("an operation to be executed", lambda: session.executed_since(since), seconds)
        return ""

    return session.claim("runs go on", go_on)


def runs_are_stalled(seconds: float = 30.0) -> bool:
    """A held run waits for code that fits its history, and says so: it neither fails nor goes on otherwise."""
    session = current()

    def status(run_id: str) -> str | None:
        try:
            run = session.client.run(run_id)
        except NotAnsweredError:
            return None
        return run and run.status

    def stalled() -> str:
        session.wait("a held run to be stalled", lambda: "stalled" in map(status, session.held), seconds)
        return ""

    return session.claim("runs wait for code that fits", stalled)


def returned_region_is_fenced(seconds: float = 60.0) -> bool:
    """The region that was struck is standby now, its database takes no write, and none of its effects came late."""
    session = current()
    region = session.place("struck")

    def fenced() -> str:
        def is_standby() -> bool:
            return bool(session.target.sql(region, "select pg_is_in_recovery()")[0][0])

        session.wait(f"the database of region {region} to be a standby", is_standby, seconds)
        late = _late_effects(session, region)
        return f"effects of its old epoch were applied after the next one began: {late[:3]}" if late else ""

    return session.claim("the returned region is fenced", fenced)


def every_run_has_ended() -> bool:
    """Every accepted run has reached a terminal state."""
    return current().wait_ended()


def _somebody_else(session: Session, before: str | None, seconds: float) -> str:
    """Who has become active instead of that region within so long; nothing where nobody has."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        active = session.client.active_region()
        if active not in (None, before):
            return f"region {active} has become active instead of {before}"
        time.sleep(POLL_SECONDS)
    return ""


def _late_effects(session: Session, region: str) -> list[str]:
    effects = session.ledger.effects() or []
    latest: dict[str, float] = {}
    for effect in effects:
        if effect.region != region:
            latest[str(effect.epoch)] = min(effect.at, latest.get(str(effect.epoch), effect.at))
    return [
        effect.key
        for effect in effects
        if effect.region == region
        and effect.outcome == "applied"
        and any(int(epoch) > effect.epoch and effect.at > began for epoch, began in latest.items())
    ]
