"""The measured cells for people, programs and documentation: a table, JSON, Markdown, and one chart."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from loadtests.tax.measure import REPLICATIONS, Cell
from loadtests.telling import machine, renew, spread

__all__ = ["CHART", "DATA", "PAGE", "TEXT", "Results", "as_markdown", "show", "write_report"]

DATA, TEXT, CHART, PAGE = "results.json", "results.md", "durability-tax.svg", "report.html"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 470, 330, 52, 112, 44, 46
HEADER = (
    "round trip",
    "replication",
    "ms per step",
    "against 0 ms",
    "runs per second",
    "handshake",
    "load",
)


class Results(BaseModel):
    """What is kept between calls, so that the whole can be measured in pieces."""

    machine: str = ""
    cells: list[Cell] = []

    @classmethod
    def load(cls, folder: Path) -> Results:
        """What was measured before; nothing where nothing was."""
        path = folder / DATA
        return cls.model_validate_json(path.read_bytes()) if path.exists() else cls()


def write_report(folder: Path, cells: Sequence[Cell], page: Path | None = None) -> Path:
    """Write data, text, chart and page over those of an earlier call, and renew `page` with its chart beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    results = Results(machine=machine(), cells=list(cells))
    (folder / DATA).write_text(results.model_dump_json(indent=1) + "\n", encoding="utf-8")
    text, svg = as_markdown(cells), chart(cells)
    (folder / TEXT).write_text(text, encoding="utf-8")
    (folder / CHART).write_text(svg, encoding="utf-8")
    measured = f"{_when(cells)} on {machine()}: {_scales(cells)}"
    template = _environment().get_template("report.html.jinja")
    html = template.render(chart=svg, header=HEADER, rows=_rows(cells), missing=_missing(cells), measured=measured)
    (folder / PAGE).write_text(html, encoding="utf-8")
    if page is not None:
        renew(page, text)
        (page.parent / "images" / CHART).write_text(svg, encoding="utf-8")
    return folder / PAGE


def show(console: Console, cells: Sequence[Cell]) -> None:
    """The cells as a table."""
    table = Table(*HEADER, title="What durability costs: median (least to most)")
    for row in _rows(cells):
        table.add_row(*row)
    console.print(table)
    for line in _missing(cells):
        console.print(f"not measured: {line}", style="yellow", markup=False, soft_wrap=True)


def as_markdown(cells: Sequence[Cell]) -> str:
    """The same for a page of documentation."""
    lines = [HEADER, ["---"] * len(HEADER), *_rows(cells)]
    grid = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    missing = [f"- Not measured: {' '.join(line.split())}" for line in _missing(cells)]
    return "\n\n".join([f"Measured {_when(cells)} on {machine()}: {_scales(cells)}.", grid, *missing]) + "\n"


def _rows(cells: Sequence[Cell]) -> list[list[str]]:
    found: list[list[str]] = []
    for cell in cells:
        base = _near(cells, cell)
        more = f"{median(cell.ms_per_step) / base:.1f}×" if base and cell.ms_per_step else ""
        seen = "" if cell.handshake_ms is None else f"{cell.handshake_ms:.0f} ms"
        steps, runs = spread(cell.ms_per_step, 1), spread(cell.runs_per_second, 2)
        load = "" if cell.load is None else f"{cell.load:.0f}"
        found.append([f"{cell.round_trip_ms} ms", cell.replication, steps, more, runs, seen, load])
    return found


def _near(cells: Sequence[Cell], cell: Cell) -> float | None:
    """The median of the same replication without a distance."""
    found = (one for one in cells if one.replication == cell.replication and one.round_trip_ms == 0)
    return next((median(one.ms_per_step) for one in found if one.ms_per_step), None)


def _missing(cells: Sequence[Cell]) -> list[str]:
    return [f"{one.round_trip_ms} ms, {one.replication}: {one.missing}" for one in cells if one.missing]


def _when(cells: Sequence[Cell]) -> str:
    days = sorted({time.strftime("%Y-%m-%d", time.gmtime(one.measured_at)) for one in cells})
    return " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "never"


def _scales(cells: Sequence[Cell]) -> str:
    """How much was measured of a cell; of cells that were measured at several scales, each of them."""
    told = [
        f"one run of {scale.single_steps} steps {scale.repeats} times, "
        f"{scale.burst_runs} runs of {scale.burst_steps} steps at once {scale.bursts} times"
        for scale in (one.scale for one in cells)
    ]
    return "; or ".join(dict.fromkeys(told)) or "nothing"


# The chart. All positions are pixels of an SVG.


@dataclass(frozen=True)
class Point:
    """A median at (x, y), with the whole range of its samples from `low` to `high`."""

    x: float
    y: float
    low: float
    high: float
    title: str


@dataclass(frozen=True)
class Series:
    """One kind of replication, with the place and the text of its label."""

    name: str
    label: str
    points: list[Point]
    label_y: float


@dataclass(frozen=True)
class Plot:
    """Series with ticks (position, text) on either axis; `left` is the place of the whole plot."""

    title: str
    note: str
    left: float
    series: list[Series]
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]


def chart(cells: Sequence[Cell]) -> str:
    """Both plots as one SVG that stands alone."""
    plots = [
        _plot(cells, "Milliseconds per step", "lower is better", 0, lambda cell: cell.ms_per_step),
        _plot(cells, "Runs per second", "higher is better", WIDTH + 20, lambda cell: cell.runs_per_second),
    ]
    return _environment().get_template("chart.svg.jinja").render(
        plots=plots, width=2 * WIDTH + 20, height=HEIGHT, top=TOP, floor=HEIGHT - BOTTOM, left=LEFT, right=WIDTH - RIGHT
    )  # fmt: skip


def _plot(
    cells: Sequence[Cell], title: str, note: str, left: float, samples: Callable[[Cell], Sequence[float]]
) -> Plot:
    measured = [cell for cell in cells if samples(cell)]
    most = max((max(samples(cell)) for cell in measured), default=1.0)
    farthest = max((cell.round_trip_ms for cell in cells), default=0) or 1
    step = next(
        step for step in (part * 10.0**power for power in range(-2, 6) for part in (1, 2, 5)) if most / step <= 5
    )
    top = step * -(-most // step)

    def x(value: float) -> float:
        return round(LEFT + value / farthest * (WIDTH - RIGHT - LEFT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP), 1)

    series: list[Series] = []
    for kind in REPLICATIONS:
        points = [
            Point(
                x(cell.round_trip_ms),
                y(median(found)),
                y(min(found)),
                y(max(found)),
                f"{kind}, {cell.round_trip_ms} ms round trip: {spread(found, 2)}",
            )
            for cell in measured
            if cell.replication == kind and (found := samples(cell))
        ]
        if points:
            last = next(cell for cell in reversed(measured) if cell.replication == kind)
            value = median(samples(last))
            label = (
                f"{kind.removesuffix('hronous')} {value:.0f}"
                if value >= 10
                else f"{kind.removesuffix('hronous')} {value:.1f}"
            )
            series.append(Series(kind, label, points, points[-1].y))
    apart = {cell.round_trip_ms for cell in cells}
    ticks = [(y(step * number), f"{step * number:g}") for number in range(round(top / step) + 1)]
    return Plot(title, note, left, _spaced(series), [(x(ms), f"{ms} ms") for ms in sorted(apart)], ticks)


def _spaced(series: Sequence[Series], room: float = 16) -> list[Series]:
    """The same, with labels that don't lie upon each other."""
    placed: list[Series] = []
    for one in sorted(series, key=lambda one: one.label_y):
        y = max(one.label_y, placed[-1].label_y + room) if placed else one.label_y
        placed.append(Series(one.name, one.label, one.points, y))
    return placed


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("loadtests.tax", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
