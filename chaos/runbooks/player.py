"""Executes a runbook on a live deployment under load, as an operator who follows the page to the letter.

Each step is a claim of the drill: the verdict counts it beside the checkers. The first step that does not do what the
page says ends the runbook, with what was expected and what was seen.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import JsonValue

from chaos.drill import Drill
from chaos.faults import NotInjectedError, NotLiftedError
from chaos.history import Claim, Fault, History
from chaos.report import Verdict
from chaos.report.folder import HISTORY
from chaos.runbooks.page import Command, Runbook, Step, Trouble, pattern
from chaos.runbooks.results import Result, StepTaken, save, without_service
from chaos.session import MARGIN, Session
from infra.local.errors import PartError
from infra.manifest import Manifest

__all__ = ["Player", "Ran", "Shell", "bash", "drilled", "environment_of", "injected"]

IN_FLIGHT = 20
PAUSE_SECONDS = 0.5
WHOLE_SECONDS = 120.0
SHOWN = 600
"""Characters of an output that are kept of a step that failed."""


@dataclass(frozen=True)
class Ran:
    """What a command printed, on both streams, and its exit code; None where its time was over."""

    output: str
    code: int | None


class Shell(Protocol):
    """Runs a line as an operator's shell does."""

    def __call__(self, line: str, environment: Mapping[str, str], seconds: float) -> Ran: ...


def bash(line: str, environment: Mapping[str, str], seconds: float) -> Ran:
    """Run a line; at the deadline, or at an interrupt, everything that it started in its group is ended."""
    child = subprocess.Popen(
        ["bash", "-c", line],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = child.communicate(timeout=seconds)
        return Ran(output, child.returncode)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        output, _ = child.communicate()
        return Ran(output, None)
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        raise


def environment_of(manifest: Manifest, active: str, since: float) -> dict[str, str]:
    """What an operator's shell knows: this `holdfast`, the deployment, which region was active, and since when."""
    own = str(Path(sys.executable).parent)
    standby = next(name for name in manifest.regions if name != active)
    return {
        **os.environ,
        "PATH": os.pathsep.join([own, os.environ.get("PATH", "")]),
        "HOLDFAST_STATE": str(manifest.directory.parent),
        "DEPLOYMENT": str(manifest.directory),
        "ACTIVE": active,
        "STANDBY": standby,
        "SINCE": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since)),
        "COLUMNS": "200",
        "NO_COLOR": "1",
    }


def injected(session: Session, trouble: Trouble) -> bool:
    """Whether the fault is in force. Where not, the session has why, and K12 is unknown."""
    try:
        session.inject(trouble.fault, trouble.where)
    except (NotInjectedError, NotLiftedError, PartError, TimeoutError):
        return False
    return True


def drilled(
    prepared: Drill,
    runbook: Runbook,
    runs: int,
    say: Callable[[str], object],
    results: Path,
    shell: Shell | None = None,
) -> tuple[Verdict, Path, Result]:
    """Drill a runbook, and keep in the folder `results` what was measured; returns the report's folder too.

    Raises TimeoutError and NotLiftedError where the deployment is not whole before or afterwards.
    """
    players: list[Player] = []

    def play(session: Session) -> dict[str, Any]:
        players.append(Player(session, runbook, say, shell or bash))
        return players[0].play()

    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    verdict, folder = prepared.judged(f"runbook-{runbook.name}", runs, play)
    player = players[0]
    moved = runbook.before is None  # else its recovery is that of what came before the page
    measured = Result(
        runbook=runbook.name,
        active=player.active,
        at=at,
        answer=verdict.answer,
        rto=verdict.recovery.rto if moved else None,
        no_service=without_service(History.load(folder / HISTORY), player.since) if player.since else None,
        steps=player.steps,
    )
    if player.steps:
        save(measured, results)
    return verdict, folder, measured


@dataclass
class Player:
    """Plays one runbook in a session. Afterwards it holds what each step took, and since when service was at stake."""

    session: Session
    runbook: Runbook
    say: Callable[[str], object] = print
    shell: Shell = bash

    def __post_init__(self) -> None:
        self.steps: list[StepTaken] = []
        self.active = self.standby = ""
        self.since: float | None = None

    def play(self) -> dict[str, Any]:
        """Make the situation, follow the page, wait until all is whole; returns the journal. Raises TimeoutError."""
        session, runbook = self.session, self.runbook
        session.wait_healthy(WHOLE_SECONDS)
        self.active = session.wait_active()
        self.standby = session.other(self.active)
        session.begin_load()
        if runbook.before is not None:
            if not injected(session, runbook.before):
                return self._journal()
            session.wait_healthy(WHOLE_SECONDS)
        session.hold_in_flight(min(IN_FLIGHT + MARGIN, session.runs))
        self.say(f"{runbook.title}: region {self.active} was active")
        if runbook.fault is not None and not injected(session, runbook.fault):
            return self._journal()
        self.since = session.injected[-1].at if runbook.fault else time.time()
        environment = environment_of(session.manifest, self.active, session.began)
        for number, step in enumerate(runbook.steps, 1):
            if not self._take(number, step, environment):
                break
        session.lift()
        session.claim("both regions are healthy again", lambda: "" if session.wait_healthy(WHOLE_SECONDS) else "not so")
        session.wait_ended()
        return self._journal()

    def _take(self, number: int, step: Step, environment: Mapping[str, str]) -> bool:
        """Whether the step did what the page says."""
        began, wrong = time.time(), ""
        if step.lifts:
            self.session.lift()
        for command in step.commands:
            if wrong := self._follow(number, command, step.aborts_on, environment):
                break
        taken = StepTaken(title=step.title, seconds=round(time.time() - began, 3), held=not wrong, detail=wrong)
        self.steps.append(taken)
        name = f"step {number}, {step.title}" if number < len(self.runbook.steps) else step.title
        where = f"{self.runbook.path.name}:{step.line}"
        self.session.claims.append(Claim(claim=f"{name} ({where})", at=began, held=not wrong, detail=wrong))
        self.say(f"{taken.seconds:6.1f} s  {name}{f': {wrong}' if wrong else ''}")
        return not wrong

    def _follow(self, number: int, command: Command, aborts_on: tuple[str, ...], environment: Mapping[str, str]) -> str:
        """What is wrong with what the command did; nothing where it did what the page says."""
        deadline, began = time.monotonic() + command.seconds, time.time()
        while True:
            ran = self.shell(command.text, environment, max(0.1, deadline - time.monotonic()))
            wrong = _wrong(command, ran, environment)
            said = next((text for text in aborts_on if pattern(text).search(_plain(ran.output))), None)
            if said is not None:
                wrong = f"`{command.text}` said {said!r}, at which the page says to abort"
            if not wrong or said is not None or not command.repeat or time.monotonic() + PAUSE_SECONDS > deadline:
                break
            time.sleep(PAUSE_SECONDS)
        if command.disturbs:
            target = f"step {number}: {command.text}"
            evidence: dict[str, JsonValue] = {"exit-code": ran.code, "said": ran.output[-SHOWN:]}
            done = Fault(
                name="operator", target=target, at=began, until=time.time(), evidence=evidence, proven=not wrong
            )
            self.session.note(done)
        return wrong

    def _journal(self) -> dict[str, Any]:
        return {
            "experiment": {"title": f"Runbook: {self.runbook.title}"},
            "active": self.active,
            "standby": self.standby,
            "steps": [step.model_dump() for step in self.steps],
        }


def _wrong(command: Command, ran: Ran, environment: Mapping[str, str]) -> str:
    """How what a command did differs from what the page shows; nothing where it does not."""
    if ran.code is None:
        return f"`{command.text}` had not ended after {command.seconds:g} s; seen: {_end(ran.output)}"
    seen, at = _plain(ran.output), 0
    for line in command.expected:
        wanted = line.replace("$ACTIVE", environment["ACTIVE"]).replace("$STANDBY", environment["STANDBY"])
        match = pattern(wanted).search(seen, at)
        if match is None:
            return f"`{command.text}` did not say {wanted.strip()!r} within {command.seconds:g} s; seen: {_end(seen)}"
        at = match.end()
    if ran.code != command.exits:
        return f"`{command.text}` ended with {ran.code} instead of {command.exits}; seen: {_end(seen)}"
    return ""


def _plain(output: str) -> str:
    return " ".join(output.split())


def _end(text: str) -> str:
    plain = _plain(text)
    return f"… {plain[-SHOWN:]}" if len(plain) > SHOWN else plain or "nothing"
