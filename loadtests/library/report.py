"""Figures for people and programs: a table, `results.json`, `results.md`, and one self-contained page of plots."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console
from rich.table import Table

from loadtests.library.bars import Bar, exit_status
from loadtests.library.cells import OURS, Figures
from loadtests.library.contenders import CONTENDERS
from loadtests.telling import machine, renew, spread

__all__ = ["as_json", "as_markdown", "show", "write_report"]

PAGE, DATA, TEXT = "report.html", "results.json", "results.md"
KIB = 1024
_DIGITS = {"ms": 1, "×": 2, "%": 1, "s": 2, "runs": 0}
_COLOURS = {"holds": "green", "does not hold": "red", "unmeasured": "yellow"}
Samples = Mapping[str, Mapping[int, Sequence[float]]]


def show(console: Console, figures: Figures, bars: Sequence[Bar]) -> None:
    """The bars as a table, then the medians of every contender."""
    table = Table(
        "bar", "measured", "limit", "verdict", "from", title="pydantic_ai_dapr: what is promised of its speed"
    )
    for bar in bars:
        verdict = f"[{_COLOURS[bar.verdict]}]{bar.verdict}[/]"
        table.add_row(bar.name, _value(bar), _limit(bar), verdict, bar.basis)
    console.print(table)
    for title, header, rows in _tables(figures):
        one = Table(*header, title=title)
        for row in rows:
            one.add_row(*row)
        console.print(one)
    for what, why in figures.missing.items():
        console.print(f"not measured: {what}: {why}", style="yellow", markup=False, soft_wrap=True)


def write_report(folder: Path, figures: Figures, bars: Sequence[Bar], page: Path | None = None) -> Path:
    """Write the three files over those of an earlier run, and renew `page`; returns the page of plots."""
    folder.mkdir(parents=True, exist_ok=True)
    written = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    text = as_markdown(figures, bars, written)
    (folder / DATA).write_text(as_json(figures, bars) + "\n", encoding="utf-8")
    (folder / TEXT).write_text(text, encoding="utf-8")
    environment = Environment(
        loader=PackageLoader("loadtests.library", "."), autoescape=True, undefined=StrictUndefined
    )
    plots = environment.get_template("report.html.jinja").render(
        bars=[(bar, _value(bar), _limit(bar)) for bar in bars],
        steps=step_plot(figures.ms_per_step),
        bursts=burst_plot(figures.steps_per_second),
        workers=worker_plot(figures.steps_per_second.get(OURS, {})),
        tables=_tables(figures),
        missing=figures.missing,
        machine=machine(),
        written=written,
    )
    (folder / PAGE).write_text(plots, encoding="utf-8")
    if page is not None:
        renew(page, text)
    return folder / PAGE


def as_json(figures: Figures, bars: Sequence[Bar]) -> str:
    """Everything that was measured, and what was said of it."""
    told = [{**asdict(bar), "verdict": bar.verdict} for bar in bars]
    answer = {"exit_status": exit_status(bars), "machine": machine(), "bars": told, "figures": asdict(figures)}
    return json.dumps(answer, indent=1, ensure_ascii=False)


def as_markdown(figures: Figures, bars: Sequence[Bar], written: str) -> str:
    """The same for a page of documentation."""
    rows = [[bar.name, _value(bar), _limit(bar), f"**{bar.verdict}**", bar.basis] for bar in bars]
    parts = [f"Measured {written} on {machine()}.", _grid(["bar", "measured", "limit", "verdict", "from"], rows)]
    for title, header, body in _tables(figures):
        parts += [f"**{title}**", _grid(header, body)]
    parts += [f"- Not measured: {what}: {' '.join(why.split())}" for what, why in figures.missing.items()]
    return "\n\n".join(parts) + "\n"


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _value(bar: Bar) -> str:
    return "" if bar.value is None else _with_unit(f"{bar.value:.{_DIGITS[bar.unit]}f}", bar.unit)


def _limit(bar: Bar) -> str:
    return f"{bar.sense} {_with_unit(f'{bar.limit:.{_DIGITS[bar.unit]}f}'.removesuffix('.0'), bar.unit)}"


def _with_unit(number: str, unit: str) -> str:
    return f"{number}{'' if unit in ('×', '%') else ' '}{unit}"


def _tables(figures: Figures) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, header and rows of what was measured; a cell is a median, then the smallest and the largest."""
    found: list[tuple[str, list[str], list[list[str]]]] = []
    lengths = sorted({steps for own in figures.ms_per_step.values() for steps in own})
    if lengths:
        rows = [
            [_title(name), *(spread(own.get(steps, []), 1) for steps in lengths)]
            for name, own in figures.ms_per_step.items()
        ]
        header = ["one run alone", *(f"{steps} steps" for steps in lengths)]
        found.append(("Milliseconds per step: median (least to most)", header, rows))
    counts = sorted({workers for own in figures.steps_per_second.values() for workers in own})
    if counts:
        runs, steps = figures.burst
        rows = [
            [_title(name), *(spread(own.get(workers, []), 0) for workers in counts)]
            for name, own in figures.steps_per_second.items()
        ]
        header = [f"{runs} runs of {steps} steps at once", *(f"{n} worker{'s'[: n > 1]}" for n in counts)]
        found.append(("Steps per second: median (least to most)", header, rows))
    if figures.parked:
        memory = [["a kept run", _kib(figures.kept_run_bytes)], ["an evicted run", _kib(figures.evicted_run_bytes)]]
        memory += [[f"runs in flight at once: {name}", f"{value:,.0f}"] for name, value in figures.parked.items()]
        found.append(("Runs that wait", ["what", "measured"], memory))
    took = [[part, f"{seconds:.0f}"] for part, seconds in figures.part_seconds.items()]
    if took:
        took.append(["all", f"{sum(figures.part_seconds.values()):.0f}"])
        found.append(("How long the measuring took", ["part", "seconds"], took))
    return found


def _title(name: str) -> str:
    return CONTENDERS[name].title


def _short(name: str) -> str:
    return _title(name).split(",")[0]


def _kib(value: float | None) -> str:
    return "" if value is None else f"{value / KIB:.0f} KiB"


# Plots. All positions are pixels of an SVG.

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM = 640, 420, 56, 170, 34
ROW, BAR_LEFT = 34, 160


@dataclass(frozen=True)
class Point:
    """A median at (x, y), with the whole range of its samples from `low` to `high` on the value's axis."""

    x: float
    y: float
    low: float
    high: float
    text: str
    title: str


@dataclass(frozen=True)
class Series:
    """A contender's points, and the place of its label."""

    name: str
    label: str
    points: list[Point]
    label_y: float


@dataclass(frozen=True)
class Plot:
    """Series with ticks (position, text) on either axis."""

    height: float
    series: list[Series]
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]


def step_plot(samples: Samples) -> Plot | None:
    """Milliseconds per step by length of the run; both axes logarithmic, for contenders differ by orders."""
    values = [value for own in samples.values() for found in own.values() for value in found]
    if not values:
        return None
    lengths = sorted({steps for own in samples.values() for steps in own})
    marks = [part * 10.0**power for power in range(-3, 6) for part in (1, 2, 5)]
    marks = [mark for mark in marks if min(values) / 2.5 < mark < max(values) * 2.5]
    x = _log_axis(lengths[0], lengths[-1], LEFT + 16, WIDTH - RIGHT - 16)
    y = _log_axis(marks[0], marks[-1], HEIGHT - BOTTOM, 12)
    series: list[Series] = []
    for name, own in samples.items():
        points = [
            Point(
                x(steps),
                y(median(found)),
                y(min(found)),
                y(max(found)),
                f"{median(found):.1f}",
                f"{_title(name)}, {steps} steps: {spread(found, 1)} ms per step",
            )
            for steps, found in sorted(own.items())
            if found
        ]
        if points:
            series.append(Series(name, f"{_short(name)}: {points[-1].text}", points, points[-1].y))
    return Plot(
        HEIGHT,
        _apart(series),
        [(x(steps), f"{steps} steps") for steps in lengths],
        [(y(mark), f"{mark:g}") for mark in marks],
    )


def burst_plot(samples: Samples) -> Plot | None:
    """Steps per second on one worker as bars, of the contenders that keep what they do."""
    kept = {name: own[1] for name, own in samples.items() if own.get(1) and name != "plain"}
    return _bars({(name, _short(name)): found for name, found in kept.items()})


def worker_plot(samples: Mapping[int, Sequence[float]]) -> Plot | None:
    """Steps per second of the library by its number of workers, as bars."""
    found = {(OURS, f"{count} worker{'s'[: count > 1]}"): own for count, own in sorted(samples.items()) if own}
    return _bars(found) if len(found) > 1 else None


def _bars(samples: Mapping[tuple[str, str], Sequence[float]]) -> Plot | None:
    if not samples:
        return None
    step = _step(max(max(found) for found in samples.values()))
    most = step * math.ceil(max(max(found) for found in samples.values()) / step)
    left, right = BAR_LEFT, WIDTH - 70

    def x(value: float) -> float:
        return round(left + value / most * (right - left), 1)

    rows: list[Series] = []
    for number, ((name, title), found) in enumerate(samples.items()):
        y = 10.0 + number * ROW
        text, said = f"{median(found):.0f}", f"{title}: {spread(found, 0)} steps/s"
        rows.append(Series(name, title, [Point(x(median(found)), y, x(min(found)), x(max(found)), text, said)], y + 15))
    ticks = [(x(step * number), f"{step * number:g}") for number in range(round(most / step) + 1)]
    return Plot(10 + len(rows) * ROW + 24, rows, ticks, [])


def _log_axis(least: float, most: float, begin: float, end: float) -> Callable[[float], float]:
    span = math.log(most / least) or 1.0
    return lambda value: round(begin + math.log(value / least) / span * (end - begin), 1)


def _apart(series: Sequence[Series], room: float = 15) -> list[Series]:
    """The same, with labels that do not lie upon each other, from the top to the bottom."""
    placed: list[Series] = []
    for one in sorted(series, key=lambda one: one.label_y):
        y = max(one.label_y, placed[-1].label_y + room if placed else one.label_y)
        placed.append(replace(one, label_y=y))
    return placed


def _step(most: float) -> float:
    return next(step for step in (part * 10.0**power for power in range(7) for part in (1, 2, 5)) if most / step <= 5)
