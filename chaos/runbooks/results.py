"""What was measured when runbooks were drilled: one file for each runbook and direction, and a table made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chaos.history import History
from chaos.runbooks.page import FOLDER, pages_in
from chaos.verdict import Answer

__all__ = ["RESULTS", "TABLE", "Result", "StepTaken", "load", "render", "save", "without_service"]

RESULTS, TABLE = "results", "RESULTS.md"
_HEAD = """\
# Results of drills

<!-- Written by `holdfast drill runbook`, from the files in results/. Don't edit it: the next drill writes it again. -->

The last drill of each runbook, by the region that was active when all was well. *RTO*: from the fault to the first
operation of a run that was in flight and goes on in the other region; only where the role moves. *No service*: the
longest time in which clients had no start acknowledged, or no operation ended well, from the fault (without one: from
the first step) on; a start is made every half second. *Procedure*: all steps and the verification, as executed by a
program, which neither reads nor hesitates.

"""


class StepTaken(BaseModel):
    """One step of a drill: its time in seconds, and why it did not do what the page says, if so."""

    model_config = ConfigDict(frozen=True)

    title: str
    seconds: float
    held: bool
    detail: str = ""


class Result(BaseModel):
    """The last drill of one runbook in one direction. Times are in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runbook: str
    active: str
    """The region that was active when all was well."""
    at: str
    answer: Answer
    rto: float | None = None
    no_service: float | None = None
    steps: list[StepTaken] = Field(default_factory=list[StepTaken])

    @property
    def seconds(self) -> float:
        """What the whole procedure took."""
        return sum(step.seconds for step in self.steps)


def without_service(history: History, since: float) -> float:
    """The longest time from `since` on without an acknowledged start, or without an operation that ended well."""
    starts = [one.answered_at for one in history.accepted]
    work = [one.at for one in history.attempts or [] if one.phase == "ended" and one.outcome == "ok"]
    return round(max(_longest_gap(starts, since), _longest_gap(work, since)), 3)


def _longest_gap(times: Iterable[float], since: float) -> float:
    marks = [since, *sorted(at for at in times if at > since)]
    return max((later - earlier for earlier, later in pairwise(marks)), default=0.0)


def save(result: Result, folder: Path = FOLDER) -> Path:
    """Keep a result in place of the last one of its kind, and write the table again; returns the table's file."""
    kept = folder / RESULTS / f"{result.runbook}-from-{result.active}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    table = folder / TABLE
    table.write_text(render(load(folder), pages_in(folder)), encoding="utf-8")
    return table


def load(folder: Path = FOLDER) -> list[Result]:
    """Every result that is kept. Raises ValueError, which names a file that is none."""
    found: list[Result] = []
    for path in sorted((folder / RESULTS).glob("*.json")):
        try:
            found.append(Result.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            raise ValueError(f"{path} is no result of a drill ({error.error_count()} errors): remove it") from error
    return found


def render(results: Sequence[Result], pages: Iterable[str] = ()) -> str:
    """The table, of nothing but these results; of `pages` it tells which have none."""
    lines = ["| runbook | from | verdict | RTO | no service | procedure | steps, last the verification | on |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for one in sorted(results, key=lambda result: (result.runbook, result.active)):
        steps = " · ".join(f"{step.seconds:.1f}{'' if step.held else ' ✗'}" for step in one.steps)
        cells = [
            f"[{one.runbook}]({one.runbook}.md)",
            one.active,
            one.answer,
            _seconds(one.rto),
            _seconds(one.no_service),
            _seconds(one.seconds),
            steps,
            one.at[:10],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    missing = sorted(set(pages) - {one.runbook for one in results})
    if missing:
        lines += ["", f"Not drilled yet: {', '.join(f'[{name}]({name}.md)' for name in missing)}."]
    return _HEAD + "\n".join(lines) + "\n"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"
