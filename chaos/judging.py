"""Judges what was recorded again, by today's checkers. Needs no deployment, and no Chaos Toolkit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from chaos.checks import CHECKS
from chaos.history import History
from chaos.report import VERDICT, Verdict, verdict_of

HISTORY, HEAD = "history", "experiment.json"


class NotJudgedError(Exception):
    """A folder holds nothing that can be judged; the message says what it lacks."""


@dataclass(frozen=True)
class Change:
    """A checker whose answer is another one now. None: it did not apply, or there was no such checker."""

    check: str
    before: str | None
    now: str | None


@dataclass(frozen=True)
class Judgement:
    """A folder's verdict by today's checkers, beside the one that was written when it was recorded, if it is there."""

    folder: Path
    history: History
    before: Verdict | None
    now: Verdict

    @property
    def changes(self) -> list[Change]:
        """What the verdict written then says otherwise."""
        if self.before is None:
            return []
        then = {check.check: check.answer for check in self.before.checks}
        now = {check.check: check.answer for check in self.now.checks}
        return [Change(name, then.get(name), now.get(name)) for name in CHECKS if then.get(name) != now.get(name)]


def judge_again(folder: Path) -> Judgement:
    """Judge a report's folder, or a history's own. Raises NotJudgedError."""
    place = folder / HISTORY if (folder / HISTORY / HEAD).exists() else folder
    try:
        history = History.load(place)
    except FileNotFoundError as error:
        raise NotJudgedError(f"{folder} has no recorded history ({HISTORY}/{HEAD}); name a report's folder") from error
    except (OSError, ValidationError) as error:
        raise NotJudgedError(f"{place} can't be read as a history: {error}") from error
    before = None
    if (folder / VERDICT).exists():
        try:
            before = Verdict.model_validate_json((folder / VERDICT).read_bytes())
        except ValidationError:
            before = None  # written by other code: there is nothing to compare with
    return Judgement(folder, history, before, verdict_of(history, before.planted if before else None))


def recorded_in(folder: Path) -> Iterator[Path]:
    """The folder, where something was recorded in it; else each folder below it of which that is true."""
    if (folder / HISTORY / HEAD).exists() or (folder / HEAD).exists():
        yield folder
        return
    yield from sorted(head.parent.parent for head in folder.glob(f"**/{HISTORY}/{HEAD}"))
