"""Which role each region had, and when: the lanes above the runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from chaos.checks.writers import Execution
from chaos.history import History

SILENT, UNKNOWN, LOST, STARTING = "no answer", "unknown", "lost", "starting"
SILENT_SAMPLES = 2
"""How often in a row a region gives no answer before that is shown: one may be a matter of the moment."""


@dataclass(frozen=True)
class Stretch:
    """A region had this role from `begin` to `end`, by that line of that file; line 0: by no record of its own."""

    region: str
    role: str
    begin: float
    end: float
    epoch: int | None
    file: str
    line: int


@dataclass(frozen=True)
class _Change:
    at: float
    role: str
    epoch: int | None
    file: str
    line: int


def stretches(
    history: History, done: Sequence[Execution], regions: Iterable[str], begin: float, end: float
) -> list[Stretch]:
    """Each region's roles in order, by its agent's word, or until it was lost. What nobody said is `unknown`.

    Events tell when a role began. Samples, which come later than what they tell, only say that a region gives no
    answer, and what it is where no event has said so.
    """
    found: list[Stretch] = []
    for region in regions:
        changes = sorted((*_events(history, region), *_samples(history, region)), key=lambda change: change.at)
        now = _first(history, done, region, begin, changes)
        for change in changes:
            if change.file == "roles" and change.role != SILENT and now.role not in (SILENT, UNKNOWN, STARTING):
                continue
            epoch = change.epoch if change.epoch is not None else now.epoch
            if (change.role, epoch) != (now.role, now.epoch) and not (change.role == SILENT and now.role == LOST):
                found.append(Stretch(region, now.role, now.at, change.at, now.epoch, now.file, now.line))
                now = replace(change, epoch=epoch)
        found.append(Stretch(region, now.role, now.at, end, now.epoch, now.file, now.line))
    return [one for one in found if one.end > one.begin]


def _first(
    history: History, done: Sequence[Execution], region: str, begin: float, changes: Sequence[_Change]
) -> _Change:
    """The role before anything changed: active where it executed runs, else what its agent says that it had been."""
    worked = next((one for one in done if one.region == region), None)
    if worked is not None and all(worked.began < change.at for change in changes if change.file == "events"):
        return _Change(begin, "active", worked.epoch, "events", 0)
    told = (event.member("from") for event in history.events or [] if event.region == region)
    return _Change(begin, next((role for role in told if isinstance(role, str)), UNKNOWN), None, "events", 0)


def _events(history: History, region: str) -> Iterable[_Change]:
    for line, fault in enumerate(history.faults, 1):
        if fault.name == "region-loss" and fault.target == f"region {region}":
            yield _Change(fault.at, LOST, None, "faults", line)
    roles = {"activated": "active", "promoted": "activating", "agent-started": STARTING}
    for line, event in enumerate(history.events or [], 1):
        role = event.member("to") if event.event == "role-changed" else roles.get(event.event)
        if event.region == region and isinstance(role, str):
            epoch = event.member("epoch")
            yield _Change(event.at, role, epoch if isinstance(epoch, int) else None, "events", line)


def _samples(history: History, region: str) -> Iterable[_Change]:
    silent: list[_Change] = []
    for line, sample in enumerate(history.roles or [], 1):
        if sample.region != region:
            continue
        if sample.agent is None:
            silent.append(_Change(sample.at, SILENT, None, "roles", line))
            if len(silent) == SILENT_SAMPLES:
                yield silent[0]
        else:
            silent.clear()
            yield _Change(sample.at, sample.agent, sample.epoch, "roles", line)
