"""What a report's folder holds, how it is written, and how it is read again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from chaos.checks import judge
from chaos.history import History
from chaos.recovery import Recovery, recovery
from chaos.verdict import Answer, CheckResult, combined

VERDICT, PAGE, JUNIT, SUMMARY = "verdict.json", "report.html", "junit.xml", "summary.md"
HISTORY, JOURNAL = "history", "journal.json"


class Verdict(BaseModel):
    """What the checkers said of one experiment."""

    model_config = ConfigDict(frozen=True)

    experiment: str
    answer: Answer
    recovery: Recovery
    checks: list[CheckResult]
    runs: int
    planted: str | None = None
    version: str | None = None


class ReportMissing(Exception):
    """A folder is no report; the message says what it lacks and what to do."""


@dataclass(frozen=True)
class Report:
    """A report in its folder. The history is read when it is asked for, unless it is at hand: it is the large part."""

    folder: Path
    verdict: Verdict
    recorded: History | None = field(default=None, repr=False, compare=False)

    @classmethod
    def load(cls, folder: Path) -> Report:
        """The report in that folder. Raises ReportMissing."""
        try:
            verdict = Verdict.model_validate_json((folder / VERDICT).read_bytes())
        except OSError as error:
            raise ReportMissing(
                f"{folder} is no report: it has no {VERDICT}; name a folder that `holdfast drill` wrote"
            ) from error
        except ValidationError as error:
            raise ReportMissing(
                f"{folder / VERDICT} can't be read as a verdict ({error.error_count()} errors); "
                f"`holdfast report judge --write {folder}` writes it again"
            ) from error
        return cls(folder, verdict)

    @cached_property
    def history(self) -> History:
        """What was recorded. Raises ReportMissing."""
        if self.recorded is not None:
            return self.recorded
        try:
            return History.load(self.folder / HISTORY)
        except (OSError, ValidationError) as error:
            raise ReportMissing(f"{self.folder / HISTORY} can't be read: {error}") from error

    @property
    def claim(self) -> str:
        """What the experiment claims: its title, by the journal beside the verdict, else its name."""
        try:
            journal: Any = json.loads((self.folder / JOURNAL).read_bytes())
            title = journal["experiment"]["title"]
        except (OSError, ValueError, LookupError, TypeError):
            return self.verdict.experiment
        return title if isinstance(title, str) else self.verdict.experiment


def verdict_of(history: History, planted: str | None = None) -> Verdict:
    """Judge a history."""
    checks = judge(history)
    return Verdict(
        experiment=history.experiment,
        answer=combined(checks),
        recovery=recovery(history),
        checks=checks,
        runs=len(history.accepted),
        planted=planted,
        version=history.version,
    )


def write_report(folder: Path, history: History, verdict: Verdict) -> Path:
    """Write verdict, page, JUnit XML and summary, and the history where none is there yet; returns the page.

    A history that is there stays as it is: later code may read less of it than what was recorded.
    """
    from chaos.report.ci import as_junit, as_markdown
    from chaos.report.page import render

    if not (folder / HISTORY).exists():
        history.save(folder / HISTORY)
    (folder / VERDICT).write_text(verdict.model_dump_json(indent=1) + "\n", encoding="utf-8")
    report = Report(folder, verdict, history)
    (folder / JUNIT).write_text(as_junit([report]), encoding="utf-8")
    (folder / SUMMARY).write_text(as_markdown([report]), encoding="utf-8")
    path = folder / PAGE
    path.write_text(render(report), encoding="utf-8")
    return path
