"""Two reports side by side: what changed of the verdict, the recovery and the counts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from chaos.report.figures import PHASES
from chaos.report.folder import PAGE, Report
from chaos.report.page import MARKS, environment, own, policy
from chaos.verdict import Answer, CheckResult

NOTABLE_SECONDS = 0.5
"""A difference of a phase that is told as one: less lies within what two equal runs differ by."""


class Row(BaseModel):
    """One thing that both reports may tell. `changed` where they tell it differently."""

    model_config = ConfigDict(frozen=True)

    name: str
    first: str | None
    second: str | None
    changed: bool
    worse: bool = False


class Comparison(BaseModel):
    """What the second report says beside the first. `answer` is whether what held in the first holds in the second.

    `valid`: all of it does. `invalid`: a check that was valid is invalid. `unknown`: one that was valid is unknown or
    was not made, or there is nothing that held in the first.
    """

    model_config = ConfigDict(frozen=True)

    answer: Answer
    verdict: list[Row]
    recovery: list[Row]
    checks: list[Row]
    counts: list[Row]

    @property
    def changes(self) -> list[Row]:
        """Everything that is told differently."""
        return [row for row in (*self.verdict, *self.recovery, *self.checks, *self.counts) if row.changed]


@dataclass(frozen=True)
class _Side:
    """What the page says of one report."""

    name: str
    claim: str
    answer: Answer
    href: str


def compare(first: Report, second: Report) -> Comparison:
    """The two reports side by side, from their verdicts alone."""
    one, other = first.verdict, second.verdict
    checks = {check.check: check for check in one.checks}, {check.check: check for check in other.checks}
    names = list(dict.fromkeys([*checks[0], *checks[1]]))
    return Comparison(
        answer=_kept(*checks),
        verdict=[
            _row("verdict", one.answer, other.answer, worse=one.answer == "valid" != other.answer),
            _row("experiment", one.experiment, other.experiment),
            _row("version", one.version, other.version),
            _row("planted bug", one.planted, other.planted),
            _row("runs accepted", str(one.runs), str(other.runs)),
        ],
        recovery=[
            _seconds(name, getattr(one.recovery, name), getattr(other.recovery, name)) for name in (*PHASES, "rto")
        ]
        + [
            _row(f"RPO {unit}", *(_text(getattr(side.recovery, f"rpo_{unit}")) for side in (one, other)))
            for unit in ("events", "seconds", "tokens")
        ],
        checks=[_checked(name, checks[0].get(name), checks[1].get(name)) for name in names],
        counts=[
            _row(f"{name} {count.replace('-', ' ')}", *(_count(side.get(name), count) for side in checks))
            for name in names
            for count in dict.fromkeys(key for side in checks if name in side for key in side[name].counts)
        ],
    )


def write_comparison(first: Report, second: Report, page: Path) -> Path:
    """Write the page of both; returns where it is."""
    style = own("page.css")
    sides = [
        _Side(
            report.folder.resolve().name,
            report.claim,
            report.verdict.answer,
            quote(os.path.relpath(report.folder / PAGE, page.parent)),
        )
        for report in (first, second)
    ]
    found = compare(first, second)
    text = environment().get_template("compare.html.jinja").render(
        policy=policy(style), style=style, sides=sides, found=found, marks=MARKS, bars=_bars(first, second)
    )  # fmt: skip
    page.write_text(text, encoding="utf-8")
    return page


def _kept(first: dict[str, CheckResult], second: dict[str, CheckResult]) -> Answer:
    held = [name for name, check in first.items() if check.answer == "valid"]
    now = [second[name].answer if name in second else "unknown" for name in held]
    if "invalid" in now:
        return "invalid"
    return "unknown" if "unknown" in now or not now else "valid"


def _row(name: str, first: str | None, second: str | None, *, worse: bool = False) -> Row:
    return Row(name=name, first=first, second=second, changed=first != second, worse=worse)


def _checked(name: str, first: CheckResult | None, second: CheckResult | None) -> Row:
    claim = (second or first or _NONE).claim
    told = [check.answer if check else None for check in (first, second)]
    return _row(f"{name} {claim}", *told, worse=told[0] == "valid" != told[1])


_NONE = CheckResult(check="", claim="", answer="unknown")


def _seconds(name: str, first: float | None, second: float | None) -> Row:
    told = [None if value is None else f"{value:.2f} s" for value in (first, second)]
    more = second - first if first is not None and second is not None else 0.0
    changed = abs(more) >= NOTABLE_SECONDS or (first is None) != (second is None)
    label = "RTO" if name == "rto" else name
    return Row(name=label, first=told[0], second=told[1], changed=changed, worse=more >= NOTABLE_SECONDS)


def _count(check: CheckResult | None, name: str) -> str | None:
    return None if check is None or name not in check.counts else str(check.counts[name])


def _text(value: float | None) -> str | None:
    return None if value is None else f"{value:g}"


def _bars(*reports: Report) -> list[list[tuple[str, float, float, float]]]:
    """The phases of each report: name, seconds, and place and width in percent of the longer recovery."""
    phases = [
        [(name, value) for name in PHASES if (value := getattr(report.verdict.recovery, name)) is not None]
        for report in reports
    ]
    whole = max((sum(value for _, value in own) for own in phases), default=0.0) or 1.0
    return [_placed(own, whole) for own in phases]


def _placed(phases: Sequence[tuple[str, float]], whole: float) -> list[tuple[str, float, float, float]]:
    found: list[tuple[str, float, float, float]] = []
    since = 0.0
    for name, seconds in phases:
        found.append((name, seconds, round(100 * since / whole, 3), round(100 * seconds / whole, 3)))
        since += seconds
    return found
