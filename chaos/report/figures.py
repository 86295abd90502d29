"""The figures of a report, each with the lines of the raw history that it came from."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.history import AgentEvent, History
from chaos.recovery import Recovery
from chaos.report.folder import Report
from chaos.verdict import CheckResult

PHASES = ("detect", "promote", "activate", "resume")
EVIDENCE = {
    "K1": ("operations", "workflows"),
    "K2": ("effects", "workflows"),
    "K3": ("operations", "observations", "workflows"),
    "K4": ("attempts", "roles", "events", "effects", "faults"),
    "K5": ("attempts", "workflows"),
    "K6": ("replays",),
    "K7": ("workflows", "faults"),
    "K8": ("signals", "workflows"),
    "K9": ("workflows", "attempts", "faults"),
    "K10": ("workflows", "operations"),
    "K11": ("proofs", "intrusions"),
    "K12": ("faults", "operations", "workflows", "effects"),
    "K13": ("attempts", "workflows"),
}
"""The files of the history from which each checker counts."""
SOON_SECONDS = 0.01
"""Phases are kept in milliseconds, so that the sum of some may miss the record of their end by a few."""


@dataclass(frozen=True)
class Source:
    """A line of a file of the history; without a line, the whole file."""

    name: str
    line: int | None = None

    @property
    def path(self) -> str:
        """Relative to the report's folder."""
        return f"history/{self.name}.jsonl"

    def __str__(self) -> str:
        return f"{self.name}.jsonl" + (f":{self.line}" if self.line else "")


@dataclass(frozen=True)
class Figure:
    """A figure of the headline. `value` is None where it was not recorded; `note` says what it means."""

    name: str
    value: str | None
    unit: str
    note: str
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Phase:
    """A phase of the recovery, in seconds since the fault, with the record of its end."""

    name: str
    begin: float
    seconds: float
    end: Source | None


def figures(report: Report) -> list[Figure]:
    """RTO, RPO and the load, in the order in which they are shown."""
    found, checks = report.verdict.recovery, {check.check: check for check in report.verdict.checks}
    told = [Figure("RTO", _seconds(found.rto), "s", "from the fault to the first operation that goes on", _rto(report))]
    if found.moved:
        note = f"until the last of the crashed worker's {len(found.moved)} runs went on"
        told.append(Figure("all moved", _seconds(found.moved[-1]), "s", note, _known(report, "faults", "attempts")))
    lost = _known(report, "operations", "observations", "workflows")
    cost_of = checks["K13"].counts if "K13" in checks else {}
    # Where no tokens were recorded at all, none were counted, and not none spent.
    again = cost_of.get("tokens-again") if cost_of.get("tokens") else None
    cost = _known(report, "attempts", "workflows")
    return [
        *told,
        Figure("RPO", _text(found.rpo_events), "events lost", "starts and operations that a client was told of", lost),
        Figure("RPO", _seconds(found.rpo_seconds, 1), "s lost", "before the fault, of what a client was told of", lost),
        Figure("RPO", _text(found.rpo_tokens), "tokens lost", "of model requests that a client was told of", lost),
        Figure("cost", _text(again), "tokens again", "spent twice, for requests that the fault met in hand", cost),
        Figure(
            "runs", str(report.verdict.runs), "accepted", "starts that were acknowledged", _known(report, "operations")
        ),
    ]


def phases(history: History, recovery: Recovery) -> list[Phase]:
    """The phases whose end was seen, in order."""
    at, since, found = history.fault_at, 0.0, list[Phase]()
    for name in PHASES:
        seconds: float | None = getattr(recovery, name)
        if seconds is not None and at is not None:
            ended = since + seconds
            end = first_resumed(history, at + ended) if name == "resume" else _event(history, name, at, ended)
            found.append(Phase(name, since, seconds, end))
            since += seconds
    return found


def sources_of(check: CheckResult, history: History) -> tuple[Source, ...]:
    """The files that a check counted in, of those that there are; none where the report does not know the check."""
    names = EVIDENCE.get(check.check, ())
    return tuple(Source(name) for name in names if getattr(history, name) is not None)


def first_resumed(history: History, at: float) -> Source | None:
    """The attempt that began then."""
    near = [
        (abs(one.at - at), line)
        for line, one in enumerate(history.attempts or [], 1)
        if one.phase == "started" and abs(one.at - at) <= SOON_SECONDS
    ]
    return Source("attempts", min(near)[1]) if near else None


def _event(history: History, phase: str, at: float, seconds: float) -> Source | None:
    """The agent's event that ended a phase: of those that can, the one that is nearest to its end."""
    near = [
        (abs(event.at - at - seconds), line)
        for line, event in enumerate(history.events or [], 1)
        if _ends(event, phase) and abs(event.at - at - seconds) <= SOON_SECONDS
    ]
    return Source("events", min(near)[1]) if near else None


def _ends(event: AgentEvent, phase: str) -> bool:
    if phase == "detect":
        return event.member("decision") == "released" or event.event == "promoted"
    return event.event == {"promote": "promoted", "activate": "activated"}[phase]


def _rto(report: Report) -> tuple[Source, ...]:
    at, rto = report.history.fault_at, report.verdict.recovery.rto
    if at is None or rto is None:
        return ()
    line = next(line for line, fault in enumerate(report.history.faults, 1) if fault.at == at)
    ends = first_resumed(report.history, at + rto)
    return (Source("faults", line), ends) if ends else (Source("faults", line),)


def _known(report: Report, *names: str) -> tuple[Source, ...]:
    return tuple(Source(name) for name in names if getattr(report.history, name) is not None)


def _seconds(value: float | None, digits: int = 2) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def _text(value: int | None) -> str | None:
    return None if value is None else str(value)
