"""What a dashboard is made of here: rows of panels, each with a title, an explanation and a unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Board", "Panel", "Query", "Row", "Unit"]

Unit = Literal["bool_yes_no", "bytes", "Bps", "dateTimeFromNow", "none", "ms", "percentunit", "reqps", "s", "short"]
"""Grafana's names."""


@dataclass(frozen=True)
class Query:
    """One PromQL expression; `legend` names a line by its labels, as `{{region}}`."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture: lines over time, or (`now`) the numbers of this moment. `width` is of 24."""

    title: str
    about: str
    unit: Unit
    queries: tuple[Query, ...]
    now: bool = False
    width: int = 12


@dataclass(frozen=True)
class Row:
    """Panels that belong together."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """One dashboard; `uid` is its address."""

    uid: str
    title: str
    about: str
    rows: tuple[Row, ...]
