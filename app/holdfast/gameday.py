"""`holdfast drill game-day`: be the operator of a fault that nobody names."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from holdfast.drill import show
from holdfast.options import UNCHECKED, as_json, deployment_options, emit, fails_as, refuse

if TYPE_CHECKING:
    from chaos.session import Session

__all__ = ["game_day"]


@click.command(
    epilog="""\b
Examples:
  holdfast drill game-day                 something breaks; mend it in another terminal
  holdfast drill game-day --seed 7        the same thing again
  holdfast drill game-day --operator 'holdfast up'
\b
It uses the running deployment, or brings one up and removes it afterwards.
Exit codes: 0 the service is back and all checks hold, 1 not so, 2 unknown or not possible."""
)
@click.option("--seed", type=click.IntRange(min=0), help="What chooses the fault.  [default: another one each time]")
@click.option("--operator", metavar="COMMAND", help="A command that plays the operator's part.")
@click.option(
    "--give-up",
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(min=1),
    help="After this time the fault is taken back.",
)
@click.option("--runs", default=24, show_default=True, type=click.IntRange(1, 500), help="Runs started at once.")
@deployment_options
@as_json
def game_day(
    seed: int | None, operator: str | None, give_up: float, runs: int, stack: str, state: Path | None, json_: bool
) -> None:
    """Let a fault strike that has a runbook, see only its symptoms, and be timed until the service is back."""
    from chaos.drill import Drill
    from chaos.faults import NotLiftedError
    from chaos.report import PAGE
    from chaos.runbooks.gameday import GameDay, choose
    from chaos.runbooks.page import Malformed, runbooks
    from chaos.verdict import EXIT_CODES

    if operator is None and not sys.stdin.isatty():
        refuse(UNCHECKED, "nobody is at this terminal to be the operator; name a command with --operator", json_=json_)
    chosen = seed if seed is not None else time.time_ns() % 1_000_000
    try:
        page = choose(runbooks(), chosen)
    except (LookupError, Malformed) as error:
        refuse(UNCHECKED, str(error), json_=json_)
    console = Console(stderr=json_)
    games: list[GameDay] = []

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    def play(session: Session) -> dict[str, Any]:
        games.append(GameDay(session, page, say, operator, give_up))
        return games[0].play()

    try:
        with fails_as(json_), Drill(stack, state, {}, None, False, console) as prepared:
            verdict, folder = prepared.judged("game-day", runs, play)
    except (NotLiftedError, TimeoutError) as error:
        refuse(UNCHECKED, f"{error}; `holdfast up` repairs the deployment", json_=json_)
    show(verdict, folder / PAGE, console)
    served, whole = games[0].served, games[0].whole
    say(f"it was {page.title}: {page.path}")
    say(f"clients were served after {_told(served)}, nothing was wrong after {_told(whole)}; `--seed {chosen}` again")
    if json_:
        emit(
            {
                "ok": verdict.answer == "valid",
                "answer": verdict.answer,
                "seed": chosen,
                "runbook": page.name,
                "served": served,
                "whole": whole,
                "verdicts": [verdict.model_dump(mode="json")],
                "reports": [str(folder)],
            }
        )
    sys.exit(EXIT_CODES[verdict.answer])


def _told(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"
