"""Which role each region had, and when: the lanes above the runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chaos.checks.writers import Execution
from chaos.history import History


@dataclass(frozen=True)
class Stretch:
    """A region had this role from `begin` to `end`; `line` is that of the event that began it, 0 where none did."""

    region: str
    role: str
    begin: float
    end: float
    epoch: int | None
    line: int


@dataclass(frozen=True)
class _Change:
    at: float
    role: str
    epoch: int | None
    line: int


def stretches(
    history: History, done: Sequence[Execution], regions: Iterable[str], begin: float, end: float
) -> list[Stretch]:
    """Each region's roles in order, by its agent's word, or until it was lost. What nobody said is `unknown`."""
    found: list[Stretch] = []
    for region in regions:
        changes = sorted(_changes(history, region), key=lambda change: change.at)
        now = _first(history, done, region, begin, changes)
        for change in changes:
            epoch = change.epoch if change.epoch is not None else now.epoch
            if (change.role, epoch) != (now.role, now.epoch):
                found.append(Stretch(region, now.role, now.at, change.at, now.epoch, now.line))
                now = _Change(change.at, change.role, epoch, change.line)
        found.append(Stretch(region, now.role, now.at, end, now.epoch, now.line))
    return [one for one in found if one.end > one.begin]


def _first(
    history: History, done: Sequence[Execution], region: str, begin: float, changes: Sequence[_Change]
) -> _Change:
    """The role before anything changed: active where it executed runs, else what its agent says that it had been."""
    worked = next((one for one in done if one.region == region), None)
    if worked is not None and all(worked.began < change.at for change in changes):
        return _Change(begin, "active", worked.epoch, 0)
    told = (event.member("from") for event in history.events or [] if event.region == region)
    return _Change(begin, next((role for role in told if isinstance(role, str)), "unknown"), None, 0)


def _changes(history: History, region: str) -> Iterable[_Change]:
    for fault in history.faults:
        if fault.name == "region-loss" and fault.target == f"region {region}":
            yield _Change(fault.at, "lost", None, 0)
    roles = {"activated": "active", "promoted": "activating", "agent-started": "starting"}
    for line, event in enumerate(history.events or [], 1):
        role = event.member("to") if event.event == "role-changed" else roles.get(event.event)
        if event.region == region and isinstance(role, str):
            epoch = event.member("epoch")
            yield _Change(event.at, role, epoch if isinstance(epoch, int) else None, line)
