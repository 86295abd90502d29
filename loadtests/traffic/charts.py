"""Line charts as data for a template: where each point, tick and label lies. All positions are pixels of an SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Chart", "Line", "Mark", "Plot", "chart"]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 520, 300, 58, 92, 44, 44
LABEL_ROOM = 15.0
TICKS = 6


@dataclass(frozen=True)
class Line:
    """A series to draw: its points are (x, y, what is told of it); `style` names its colour."""

    name: str
    style: str
    points: Sequence[tuple[float, float, str]]


@dataclass(frozen=True)
class Chart:
    """What to draw. `limits` are lines across, with their text. A logarithmic chart shows what is above 0."""

    title: str
    note: str
    across: str
    lines: Sequence[Line]
    unit: str = ""
    logarithmic: bool = False
    limits: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True)
class Mark:
    """One point."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Drawn:
    """A series with its places, and that of its label."""

    name: str
    style: str
    marks: list[Mark]
    label_y: float


@dataclass(frozen=True)
class Plot:
    """A chart with all places. Ticks and limits are (position, text)."""

    title: str
    note: str
    across_label: str
    lines: list[Drawn]
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]
    limits: list[tuple[float, str]]


def chart(wanted: Chart) -> Plot:
    """Where everything of a chart lies."""
    lines = [
        Line(one.name, one.style, [point for point in one.points if not wanted.logarithmic or point[1] > 0])
        for one in wanted.lines
    ]
    xs = [x for one in lines for x, _, _ in one.points] or [0.0, 1.0]
    ys = [y for one in lines for _, y, _ in one.points] + [y for y, _ in wanted.limits] or [1.0]
    ticks = _decades(min(ys), max(ys)) if wanted.logarithmic else _steps(max(ys))
    least_x, most_x = min(0.0, *xs), max(xs) or 1.0

    def place_x(x: float) -> float:
        return round(LEFT + (x - least_x) / (most_x - least_x) * (WIDTH - RIGHT - LEFT), 1)

    def place_y(y: float) -> float:
        low, high, at = ticks[0], ticks[-1], y
        if wanted.logarithmic:
            low, high, at = math.log10(low), math.log10(high), math.log10(y)
        return round(HEIGHT - BOTTOM - (at - low) / (high - low) * (HEIGHT - BOTTOM - TOP), 1)

    drawn = [
        Drawn(one.name, one.style, marks, marks[-1].y)
        for one in lines
        if (marks := [Mark(place_x(x), place_y(y), title) for x, y, title in one.points])
    ]
    return Plot(
        wanted.title,
        wanted.note,
        wanted.across,
        _spaced(drawn),
        [(place_x(x), f"{x:g}") for x in (_steps(most_x) if drawn else [])],
        [(place_y(y), f"{y:g}{wanted.unit}") for y in ticks],
        [(place_y(y), text) for y, text in wanted.limits],
    )


def _steps(most: float) -> list[float]:
    """Round values from 0 to at least `most`."""
    most = most or 1.0
    step = next(
        part * 10.0**power for power in range(-6, 9) for part in (1, 2, 5) if most / (part * 10.0**power) <= TICKS - 1
    )
    return [round(step * number, 9) for number in range(math.ceil(most / step - 1e-9) + 1)]


def _decades(least: float, most: float) -> list[float]:
    """Round values of a logarithmic scale that hold both."""
    scale = [part * 10.0**power for power in range(-6, 9) for part in (1, 2, 5)]
    low = max(index for index, value in enumerate(scale) if value <= least)
    high = min(index for index, value in enumerate(scale) if value >= most)
    found = scale[low : max(high, low + 1) + 1]
    if len(found) <= 2 * TICKS:
        return [round(value, 9) for value in found]
    # Then only whole decades, so that their texts have room.
    return [10.0**power for power in range(math.floor(math.log10(found[0])), math.ceil(math.log10(found[-1])) + 1)]


def _spaced(lines: Sequence[Drawn]) -> list[Drawn]:
    """The same, with labels that don't lie upon each other."""
    placed: list[Drawn] = []
    for one in sorted(lines, key=lambda one: one.label_y):
        y = max(one.label_y, placed[-1].label_y + LABEL_ROOM) if placed else one.label_y
        placed.append(Drawn(one.name, one.style, one.marks, y))
    return placed
