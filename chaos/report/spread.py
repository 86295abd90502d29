"""How long recoveries took over many repeats: their distribution, by phase, for people and for documentation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from chaos.report.ci import ANSWERS, by_experiment, grid, plain
from chaos.report.figures import PHASES
from chaos.report.folder import Report, Verdict
from chaos.report.page import environment

BARS = {"region-loss": 10.0, "switchover": 10.0}
"""What 95 of 100 recoveries are to take at most, in seconds."""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 320, 44, 84, 50, 34


@dataclass(frozen=True)
class Spread:
    """What one phase took in each repeat in which it was seen, the least first, in seconds."""

    name: str
    values: Sequence[float]

    def quantile(self, share: float) -> float:
        """The smallest of the values that at least `share` of them don't exceed."""
        return self.values[max(0, math.ceil(round(share * len(self.values), 6)) - 1)]

    @property
    def figures(self) -> dict[str, float]:
        """What is told of it."""
        halves = {"p50": self.quantile(0.5), "p95": self.quantile(0.95)}
        return {"min": self.values[0], **halves, "max": self.values[-1]}


@dataclass(frozen=True)
class _Part:
    """A phase of one repeat, in pixels."""

    phase: str
    top: float
    height: float


@dataclass(frozen=True)
class _Column:
    """One repeat, in pixels."""

    left: float
    width: float
    title: str
    parts: Sequence[_Part]


def spreads(verdicts: Sequence[Verdict]) -> list[Spread]:
    """Each phase, the whole, and each run that a crashed worker left, where any repeat saw it."""
    columns = {
        name: [value for one in verdicts if (value := getattr(one.recovery, name)) is not None]
        for name in (*PHASES, "rto")
    }
    columns["each run moved"] = [value for one in verdicts for value in one.recovery.moved]
    return [Spread(name, sorted(values)) for name, values in columns.items() if values]


def show(verdicts: Sequence[Verdict], console: Console) -> None:
    """The distribution as a table."""
    table = Table("seconds", "min", "p50", "p95", "max", "n", title=f"{len(verdicts)} repeats")
    for one in spreads(verdicts):
        table.add_row(one.name, *(f"{value:.2f}" for value in one.figures.values()), str(len(one.values)))
    console.print(table)
    console.print(_answers(verdicts))


def slower_than_asked(experiment: str, verdicts: Sequence[Verdict]) -> bool | None:
    """Whether the whole recovery's p95 exceeds its bar; None where it has none, or no repeat saw one."""
    whole = next((one for one in spreads(verdicts) if one.name == "rto"), None)
    return None if whole is None or experiment not in BARS else whole.quantile(0.95) > BARS[experiment]


def as_page(reports: Sequence[Report], command: str) -> str:
    """A page of documentation: for each experiment its chart, its distribution, and what was not valid."""
    parts = [_HEAD.format(command=command)]
    for name, own in by_experiment(reports).items():
        verdicts = [one.verdict for one in own]
        versions = ", ".join(dict.fromkeys(one.version or "not recorded" for one in verdicts))
        parts += [f"## {plain(name)}", f"![{plain(name)}: each repeat's recovery by phase](images/{chart_name(name)})"]
        parts.append(f"{len(own)} repeats: {_answers(verdicts)}. Version {plain(versions)}.{_barred(name, verdicts)}")
        rows = [
            [one.name, *(f"{value:.2f}" for value in one.figures.values()), str(len(one.values))]
            for one in spreads(verdicts)
        ]
        parts.append(grid(["seconds", "min", "p50", "p95", "max", "n"], rows))
        wrong = [f"- {one.verdict.answer}: {plain(one.folder.name)}" for one in own if one.verdict.answer != "valid"]
        parts += ["\n".join(wrong)] if wrong else []
    return "\n\n".join(parts) + "\n"


def chart_name(experiment: str) -> str:
    """The file of an experiment's chart."""
    return f"recovery-{experiment}.svg"


def as_chart(experiment: str, verdicts: Sequence[Verdict]) -> str:
    """Every repeat as a column of its phases, the fastest first, with p50, p95 and what is asked for. An SVG."""
    seen = sorted((one.recovery for one in verdicts if one.recovery.rto is not None), key=lambda one: one.rto or 0.0)
    whole = Spread("rto", [one.rto or 0.0 for one in seen] or [0.0])
    bar = BARS.get(experiment)
    top = max([whole.values[-1], bar or 0.0, 1.0]) * 1.05
    floor, high = HEIGHT - BOTTOM, HEIGHT - BOTTOM - TOP
    step = (WIDTH - LEFT - RIGHT) / max(1, len(seen))

    def y(seconds: float) -> float:
        return round(floor - high * seconds / top, 1)

    columns: list[_Column] = []
    for number, one in enumerate(seen):
        phases = [(phase, value) for phase in PHASES if (value := getattr(one, phase)) is not None]
        at, parts = 0.0, list[_Part]()
        for phase, value in phases or [("whole", one.rto or 0.0)]:
            parts.append(_Part(phase, y(at + value), round(y(at) - y(at + value), 1)))
            at += value
        told = ", ".join(f"{phase} {value:.2f}" for phase, value in phases)
        title = f"{one.rto:.2f} s{f': {told}' if told else ''}"
        columns.append(_Column(round(LEFT + number * step, 1), round(step * 0.82, 1), title, parts))
    lines = [(y(value), f"{name} {value:.1f} s") for name, value in list(whole.figures.items())[1:3]]
    every = max(1, math.ceil(top / 8))
    return (
        environment()
        .get_template("spread.svg.jinja")
        .render(
            width=WIDTH, height=HEIGHT, left=LEFT, right=WIDTH - RIGHT, top=TOP, floor=floor,
            experiment=experiment, count=len(seen), repeats=len(verdicts), columns=columns, phases=PHASES,
            lines=lines if seen else [], bar=None if bar is None else (y(bar), f"asked {bar:g} s"),
            ticks=[(y(second), str(second)) for second in range(0, int(top) + 1, every)],
        )
    )  # fmt: skip


def write_page(reports: Sequence[Report], page: Path, command: str) -> None:
    """The page, with its charts in `images` beside it."""
    images = page.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    page.write_text(as_page(reports, command), encoding="utf-8")
    for name, own in by_experiment(reports).items():
        (images / chart_name(name)).write_text(as_chart(name, [one.verdict for one in own]), encoding="utf-8")


_HEAD = """# How long a recovery takes

<!-- Made by `holdfast report recovery`: a change by hand is lost. -->

```
{command}
```

From the fault to the first operation of a run that was accepted before it: *detect*, the lease is released or has run out; *promote*, the database is primary; *activate*, sidecars and workers are connected; *resume*, the first operation. In seconds, over every repeat that there is a report of, whatever its verdict; *n* is in how many it was seen. A column is a repeat."""  # noqa: E501 - a line is a paragraph


def _answers(verdicts: Sequence[Verdict]) -> str:
    answers = [one.answer for one in verdicts]
    return ", ".join(f"{answers.count(one)} {one}" for one in ANSWERS)


def _barred(experiment: str, verdicts: Sequence[Verdict]) -> str:
    slow = slower_than_asked(experiment, verdicts)
    if slow is None:
        return ""
    return f" p95 is asked to be at most {BARS[experiment]:g} s: {'**it is not**' if slow else 'it is'}."
