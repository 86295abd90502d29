"""Game day: a fault that has a runbook strikes at random, and an operator who is told only symptoms ends it.

The same seed strikes in the same way. What the operator needs is timed as a client sees it, and until nothing is wrong.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chaos.history import Claim, Fault
from chaos.runbooks.page import Runbook
from chaos.runbooks.player import IN_FLIGHT, WHOLE_SECONDS, environment_of, injected
from chaos.session import MARGIN, Session
from infra.diagnosis import problems
from infra.status import observe

__all__ = ["GameDay", "choose"]

POLL_SECONDS = 0.5
END_SECONDS = 30.0


def choose(pages: Sequence[Runbook], seed: int) -> Runbook:
    """The seed's choice of the runbooks that an operator can end with his own hands. Raises LookupError."""
    fit = [
        one
        for one in pages
        if one.not_drilled is None and one.fault and not one.before and not any(step.lifts for step in one.steps)
    ]
    if not fit:
        raise LookupError("no runbook has a fault that an operator alone can end")
    return random.Random(seed).choice(sorted(fit, key=lambda one: one.name))


@dataclass
class GameDay:
    """One game in a session. `operator` is a command that plays the operator's part; without it somebody does.

    Afterwards `served` and `whole` are the seconds until clients were served, and until nothing was wrong; None where
    that did not come about in `give_up` seconds.
    """

    session: Session
    runbook: Runbook
    say: Callable[[str], object]
    operator: str | None
    give_up: float

    def __post_init__(self) -> None:
        self.served: float | None = None
        self.whole: float | None = None

    def play(self) -> dict[str, Any]:
        """Returns the journal, when all is whole or was given up. Raises TimeoutError."""
        session = self.session
        session.wait_healthy(WHOLE_SECONDS)
        active = session.wait_active()
        session.begin_load()
        session.hold_in_flight(min(IN_FLIGHT + MARGIN, session.runs))
        assert self.runbook.fault is not None, "`choose` takes only runbooks with a fault"
        if injected(session, self.runbook.fault):
            self._tell(active)
            self._await(session.injected[-1].at, active)
            self._claim()
        session.lift()
        session.wait_healthy(WHOLE_SECONDS)
        session.wait_ended()
        return {"experiment": {"title": "Game day"}, "runbook": self.runbook.name, "whole": self.whole}

    def _tell(self, active: str) -> None:
        self.say(f"\nSomething is wrong. Region {active} was active until now.\n\n{self.runbook.symptom}\n")
        self.say(f"Mend it; the clock runs. You have {self.give_up:g} s. Begin with `holdfast status`.\n")

    def _await(self, since: float, active: str) -> None:
        """Look as a client and as an operator would, while the operator is at it."""
        with contextlib.ExitStack() as undo:
            if self.operator is not None:
                undo.enter_context(_played(self.operator, environment_of(self.session.manifest, active, since)))
            while self.whole is None and time.time() - since < self.give_up:
                self._look(since)
                time.sleep(POLL_SECONDS)
        # What an operator does may strike at runs, as a fault does.
        note = Fault(name="operator", target="what seemed right", at=since, until=time.time(), proven=True)
        self.session.note(note)

    def _look(self, since: float) -> None:
        took = round(time.time() - since, 1)
        if self.served is None and self.session.accepted_since(since) and self.session.executed_since(since):
            self.served = took
            self.say(f"{took:6.1f} s  clients are served")
        if self.served is not None and not problems(observe(self.session.manifest)):
            self.whole = took
            self.say(f"{took:6.1f} s  nothing is wrong any more")

    def _claim(self) -> None:
        claim = f"an operator brought the service back within {self.give_up:g} s"
        detail = (
            "" if self.whole is not None else "clients were not served" if self.served is None else "it was not whole"
        )
        self.session.claims.append(Claim(claim=claim, at=time.time(), held=not detail, detail=detail))


@contextlib.contextmanager
def _played(command: str, environment: Mapping[str, str]) -> Generator[None]:
    """The operator's part is played; what is under way at the end may end, for a while."""
    line = ["bash", "-c", command]
    playing = subprocess.Popen(line, env=dict(environment), stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
        with contextlib.suppress(subprocess.TimeoutExpired):
            playing.wait(END_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(playing.pid, signal.SIGKILL)
        playing.wait()
