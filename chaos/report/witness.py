"""Which operation a witness speaks of: the operation that the page shows when its link is followed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from chaos.history import History
from chaos.verdict import CheckResult

_WORD = re.compile(r"[^\s,;()]+")
_ORDINAL = re.compile(r":\d+(?=:|$)")


@dataclass(frozen=True)
class Piece:
    """A part of a witness's text; `ref` is `run` or `run:ordinal` where it names one."""

    text: str
    ref: str | None = None


@dataclass(frozen=True)
class Problem:
    """A witness of a check that is not valid, with the first operation that it names and when that was last begun.

    `run_id`, `ordinal` and `at` are None where it names none: such a witness is of the whole experiment.
    """

    check: str
    answer: str
    text: str
    run_id: str | None
    ordinal: int | None
    at: float | None
    place: str
    """The id that the witness has on the page."""


def pieces(text: str, run_ids: Iterable[str]) -> list[Piece]:
    """The text in pieces, each name of a known run or of its operation one of its own.

    A run's id may hold anything: at the beginning of the text, where checkers put what it is of, it is found whole.
    """
    known = set(run_ids)
    found: list[Piece] = []
    done = 0
    if led := next((run_id for run_id in known if text.startswith(f"{run_id}:")), None):
        ordinal = _ORDINAL.match(text, len(led))
        done = ordinal.end() if ordinal else len(led)
        found.append(Piece(text[:done], text[:done]))
    for word in _WORD.finditer(text, done):
        name = word.group().rstrip(":.")
        if _parts(name, known) is not None:
            found += [Piece(text[done : word.start()]), Piece(name, name)]
            done = word.start() + len(name)
    found.append(Piece(text[done:]))
    return [piece for piece in found if piece.text]


def problems(checks: Iterable[CheckResult], history: History) -> list[Problem]:
    """Every witness of a check that is not valid, invalid ones first, then by time, those without a time last."""
    known = {one.run_id for one in history.operations} | {one.run_id for one in history.attempts or []}
    # Where an operation was executed again, it is the last execution that shows the error.
    when: dict[tuple[str, int | None], float] = {(one.run_id, None): one.answered_at for one in history.operations}
    for attempt in history.attempts or []:
        for ordinal in (attempt.ordinal, None) if attempt.phase == "started" else ():
            key = attempt.run_id, ordinal
            when[key] = max(attempt.at, when.get(key, attempt.at))
    found = [one for check in checks if check.answer != "valid" for one in _problems(check, known, when)]
    return sorted(found, key=lambda one: (one.answer != "invalid", one.at is None, one.at or 0.0))


def _problems(check: CheckResult, known: set[str], when: dict[tuple[str, int | None], float]) -> Iterator[Problem]:
    for number, text in enumerate(check.witness):
        ref = next((piece.ref for piece in pieces(text, known) if piece.ref is not None), None)
        run_id, ordinal = (_parts(ref, known) if ref is not None else None) or (None, None)
        at = None if run_id is None else when.get((run_id, ordinal), when.get((run_id, None)))
        yield Problem(check.check, check.answer, text, run_id, ordinal, at, f"{check.check}-{number}")


def _parts(name: str, known: set[str]) -> tuple[str, int | None] | None:
    """The run and the ordinal that a name stands for; None where it is no known run's."""
    if name in known:
        return name, None
    run_id, _, ordinal = name.rpartition(":")
    return (run_id, int(ordinal)) if run_id in known and ordinal.isdecimal() else None
