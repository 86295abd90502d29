"""The crash-point grid: one run for each step of the reference agent and each point, whose worker dies there once."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from pydantic import JsonValue
from refund_desk import Ticket
from refund_desk.tickets import bundled_tickets, read_tickets

from chaos.crashpoints import CRASHES, EFFECTS, FOLDER, PLAN, POINTS
from chaos.history import TERMINAL, Claim, Fault
from chaos.plants import Plant
from chaos.session import Session
from chaos.workload import run_id_of

__all__ = ["PLANT", "Cell", "Grid", "cells_of", "ticket"]


class _Points(Plant):
    """Planted like a bug; what it does is no bug."""

    @property
    def folder(self) -> Path:
        return FOLDER


PLANT = _Points("crash-points", "a worker dies at a point of an operation, once for each run", "none: it is no bug")
TICKET = "T-1001"
DRY_SECONDS, SECONDS = 60.0, 480.0


@dataclass(frozen=True)
class Cell:
    """A step of the agent's run, and the point at which the worker dies that is at it."""

    ordinal: int
    step: str
    point: str


def cells_of(steps: Sequence[tuple[int, str]]) -> list[Cell]:
    """Every step, by number and name, at every point that it passes."""
    return [
        Cell(ordinal, name, point.name)
        for ordinal, name in steps
        for point in POINTS
        if not point.effects_only or name in EFFECTS
    ]


def ticket() -> Ticket:
    """The ticket whose run takes every step: its refund needs no approval, and is made."""
    return next(one for one in read_tickets(bundled_tickets()).tickets if one.ticket_id == TICKET)


class Grid:
    """Plays the grid in a session whose deployment has the plant."""

    def __init__(self, session: Session, ticket: Ticket) -> None:
        self._session, self._ticket = session, ticket
        self._folders = [region.attempts_dir for region in session.manifest.regions.values()]
        self.cells: list[Cell] = []
        self._told = 0

    def play(self, say: Callable[[str], object]) -> None:
        """Returns when every run has ended, with each death among the session's faults. Raises TimeoutError."""
        session = self._session
        session.wait_healthy(120)
        self.cells = cells_of(self._steps())
        session.runs = len(self.cells)
        names = {run_id_of(session.prefix, number, self._ticket): cell for number, cell in enumerate(self.cells)}
        plan = json.dumps({run_id: [cell.point, cell.ordinal] for run_id, cell in names.items()})
        for folder in self._folders:
            (folder / PLAN).write_text(plan, encoding="utf-8")
            (folder / PLAN).chmod(0o644)
        session.begin_load([self._ticket])
        with contextlib.suppress(TimeoutError):  # The claim says which cells were not struck.
            session.wait("every worker to die at its point", lambda: self._all_died(names, say), SECONDS)
        session.end_load()
        session.wait_ended()
        self._note(names)

    def _all_died(self, names: dict[str, Cell], say: Callable[[str], object]) -> bool:
        died = len(self._died(names))
        if died != self._told:
            self._told = died
            say(f"{died} of {len(names)} cells, {time.time() - self._session.began:.0f} s")
        return died == len(names)

    def _died(self, names: dict[str, Cell]) -> dict[str, dict[str, Any]]:
        """What the workers wrote before they died, by run."""
        files = [folder / CRASHES for folder in self._folders]
        lines = [line for file in files if file.exists() for line in file.read_text("utf-8").splitlines()]
        return {one["run_id"]: one for one in map(json.loads, lines) if one["run_id"] in names}

    def _note(self, names: dict[str, Cell]) -> None:
        died = self._died(names)
        for run_id, one in sorted(died.items(), key=lambda item: item[1]["at"]):
            evidence: dict[str, JsonValue] = {"run": run_id, "ordinal": one["ordinal"], "point": one["point"]}
            self._session.injected.append(
                Fault(
                    name="crash-point",
                    target=f"{one['point']} of {names[run_id].step}",
                    at=one["at"],
                    until=one["at"],
                    killed=[one["pid"]],
                    evidence=evidence,
                    proven=not psutil.pid_exists(one["pid"]),
                )
            )
        missed = [f"{cell.step} ({cell.ordinal}) {cell.point}" for run_id, cell in names.items() if run_id not in died]
        self._session.claims.append(
            Claim(
                claim=f"a worker died in each of the {len(names)} cells",
                at=time.time(),
                held=None if missed else True,
                detail=f"not in {', '.join(missed)}" if missed else "",
            )
        )

    def _steps(self) -> list[tuple[int, str]]:
        """The steps of a run that nobody disturbs."""
        client, run_id = self._session.client, run_id_of(self._session.prefix, 9999, self._ticket)
        payload = self._ticket.model_dump(mode="json", exclude_none=True)
        self._session.wait("a start to be accepted", lambda: client.start(run_id, payload).outcome == "ok", DRY_SECONDS)

        def ended() -> bool:
            run = client.run(run_id)
            return run is not None and run.status in TERMINAL

        self._session.wait("the undisturbed run to end", ended, DRY_SECONDS)
        return sorted({(step.ordinal, step.name) for step in client.steps(run_id)})
