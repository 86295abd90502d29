"""The catalogue of experiments: what each claims, which faults it takes, and about how long it lasts."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from chaos.faults import Ability, abilities

__all__ = ["EXPERIMENTS", "Experiment", "chosen", "read"]

FOLDER = Path(__file__).parent / "experiments"
EXPERIMENTS = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
EXTENSION = "holdfast"
"""Chaos Toolkit leaves to us what an experiment says under this name."""
_MATRIX_ID = re.compile(r"[A-Z]\d+")


@dataclass(frozen=True)
class Experiment:
    """One file of the folder, as the catalogue tells of it."""

    name: str
    claim: str
    tags: tuple[str, ...]
    faults: tuple[str, ...]
    seconds: float
    """About how long it lasts, where nobody has measured it yet."""
    document: dict[str, Any]

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows of the fault matrix that it covers."""
        return tuple(tag for tag in self.tags if _MATRIX_ID.fullmatch(tag))

    @property
    def needs(self) -> frozenset[Ability]:
        """What a target has to be able to do."""
        return abilities([*self.faults])


@functools.cache
def read(name: str) -> Experiment:
    """The experiment of that name."""
    document = cast("dict[str, Any]", yaml.safe_load(EXPERIMENTS[name].read_text(encoding="utf-8")))
    own = next((one for one in document.get("extensions", ()) if one.get("name") == EXTENSION), {})
    return Experiment(
        name=name,
        claim=document["title"],
        tags=tuple(document.get("tags", ())),
        faults=tuple(dict.fromkeys(_faults(document))),
        seconds=float(own.get("seconds", 60)),
        document=document,
    )


def chosen(names: Iterable[str], tags: Iterable[str], everything: bool = False) -> list[Experiment]:
    """Those that are named, those with one of the tags, or all. Raises KeyError, which names what there is."""
    wanted, marked = list(names), set(tags)
    for name in wanted:
        if name not in EXPERIMENTS:
            raise KeyError(f"there is no experiment {name!r}; there are {', '.join(sorted(EXPERIMENTS))}")
    known = {tag for name in EXPERIMENTS for tag in read(name).tags}
    for tag in sorted(marked - known):
        raise KeyError(f"no experiment has the tag {tag!r}; there are {', '.join(sorted(known))}")
    found = [read(name) for name in wanted]
    others = [read(name) for name in EXPERIMENTS if name not in wanted]
    return found + [one for one in others if everything or marked & set(one.tags)]


def _faults(document: dict[str, Any]) -> Iterator[str]:
    for step in document["method"]:
        provider = step.get("provider", {})
        if provider.get("func") == "inject":
            yield str(provider["arguments"]["fault"])
